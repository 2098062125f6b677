"""explain attribution from a fine-tuned Run to a report, through the real command line; and bad input."""

import contextlib
import io
import json
import sys

import numpy as np
import polars as pl
import pytest

from fixtures.builders import lively_esm
from protlm.cli.main import main
from protlm.models.heads import Head, HeadConfig, head_facts
from protlm.runs import Run
from protlm.types.record import Chain, Record, Role
from protlm.types.target import Target

HEAVY = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC{}"
    "WGQGTLVTVSS"
)
LIGHT = (
    "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQ{}PPTF"
    "GQGTKVEIK"
)
CDR3S = ("SRWGGDGFYAMDY", "ARDYYGSSYFDY", "AKGGYSSGWYFDL", "TRLLRYFDV")
TABLES = {f"attribution{end}" for end in ("", "_records", "_shares", "_curves", "_areas")}


def protlm(*arguments):
    """Give exit status, standard output and standard error."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    old, sys.argv = sys.argv, ["protlm", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as leave:
        status = leave.code
    finally:
        sys.argv = old
    return status, out.getvalue(), err.getvalue()


def make_run(path, target, *, seeds=(), pair=True):
    """Write a Run as finetune does, without training."""
    chains = (Chain("EV", role=Role.HEAVY), Chain("DI", role=Role.LIGHT))[: 2 if pair else 1]
    run = Run.create(path, verb="finetune")
    encoder = lively_esm(hidden_size=8, num_heads=2)
    encoder.save(run.model_path)
    for place in [path / f"seed-{seed}" for seed in seeds] or [path]:
        head = Head(head_facts(target, HeadConfig(), 8, [Record("a", chains)]))
        for parameter in head.layers.parameters():
            parameter.data.normal_()
        head.save(place / "head")
    folders = [f"seed-{seed}" for seed in seeds] or ["."]
    run.write_json("predictors.json", {"format_version": 1, "folders": folders})
    run.finish()
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A table of antibodies, a Run, and one to stand beside."""
    folder = tmp_path_factory.mktemp("attribution")
    rows = [
        {
            "id": f"ab{n}",
            "heavy": HEAVY.format(cdr3),
            "light": LIGHT.format("HYT" * (1 + n % 2)),
            "kind": kind,
        }
        for n, (cdr3, kind) in enumerate(zip(CDR3S, ("RBD", "other") * 2, strict=True))
    ]
    pl.DataFrame(rows).write_csv(folder / "abs.tsv", separator="\t")
    target = Target("binary", "sequence", ("other", "RBD"), name="kind")
    make_run(folder / "tuned", target)
    make_run(folder / "control", target)
    make_run(folder / "seeds", target, seeds=(0, 1))
    make_run(folder / "residues", Target("classes", "residue", ("H", "E")))
    make_run(folder / "number", Target("value", "sequence", name="kd"))
    return folder


def explain(place, *more, model="tuned", out="run"):
    given = ("--model", place / model, "--input", place / "abs.tsv", "--out", place / out)
    return protlm("explain", "attribution", *given, *more)


@pytest.fixture(scope="module")
def finished(place):
    status, out, err = explain(place, "--control", place / "control", "--steps", 8)
    assert status == 0, err
    return place / "run", out, err


def test_a_run_has_its_tables_and_says_what_came_out(finished):
    run, out, err = finished
    assert (run / "DONE").exists()
    named = {path.stem for path in (run / "tables").iterdir()}
    assert named == {*TABLES, "attribution_control", "attribution_correlation"}
    assert "4 records, attcat, grad-x-input, integrated-gradients, occlusion" in err
    assert "AttCAT, area against random order: deletion" in out
    assert "occlusion: rank correlation with the control" in out


def test_each_residue_has_a_line_with_its_region(finished):
    table = pl.read_parquet(finished[0] / "tables" / "attribution.parquet")
    own = table.filter(
        (pl.col("method") == "occlusion") & (pl.col("id") == "ab0") & (pl.col("chain") == "heavy")
    )
    assert "".join(own["residue"]) == HEAVY.format(CDR3S[0])
    assert own["position"].to_list() == [index + 1 for index in own["index"]]
    assert "".join(own.filter(pl.col("region") == "CDR3")["residue"]) == CDR3S[0]


def test_shares_are_whole(finished):
    shares = pl.read_parquet(finished[0] / "tables" / "attribution_shares.parquet")
    both = shares.filter((pl.col("chain") == "all") & pl.col("region").is_in(["framework", "CDRs"]))
    sums = both.group_by("method").agg(pl.col("share", "length_share").sum())
    np.testing.assert_allclose(sums.select("share", "length_share").to_numpy(), 1, atol=1e-9)


def test_integrated_gradients_say_what_they_miss(finished):
    records = pl.read_parquet(finished[0] / "tables" / "attribution_records.parquet")
    gap = records.filter(pl.col("method") == "integrated-gradients")["gap"]
    assert gap.is_not_nan().all()
    assert (gap > 0.05).any() == ("more --steps than 8" in finished[2])


def test_a_report_draws_it(finished, tmp_path):
    status, _, err = protlm("report", finished[0], "--out", tmp_path / "report.html")
    assert status == 0, err
    page = (tmp_path / "report.html").read_text()
    for expected in ("What the output comes from: run", "integrated gradients:", "aligned by IMGT position"):
        assert expected in page


def test_the_true_class_is_explained_where_a_column_has_it(place):
    status, _, err = explain(place, "--labels", "kind", "--method", "grad-x-input", "--no-curves", out="true")
    assert status == 0, err
    records = pl.read_parquet(place / "true" / "tables" / "attribution_records.parquet")
    assert records["class"].to_list() == ["RBD", "other"] * 2
    status, _, err = explain(place, "--class", "RBD", "--method", "grad-x-input", "--no-curves", out="one")
    assert status == 0, err
    one, true = (pl.read_parquet(place / each / "tables" / "attribution.parquet") for each in ("one", "true"))
    sign = np.where(true["id"].is_in(["ab0", "ab2"]), 1, -1)
    np.testing.assert_allclose(one["attribution"], sign * true["attribution"].to_numpy(), atol=1e-6)


def test_a_number_and_one_of_several_models(place):
    status, out, err = explain(
        place, "--method", "attcat", "--no-curves", "--json", "--max-records", 2, model="number", out="kd"
    )
    assert status == 0, err
    assert {json.loads(line)["n_records"] for line in out.splitlines()} == {2}
    assert set(pl.read_parquet(place / "kd" / "tables" / "attribution_records.parquet")["class"]) == {"kd"}
    status, _, err = explain(place, "--method", "attcat", "--no-curves", model="seeds/seed-1", out="seed")
    assert status == 0, err
    records = pl.read_parquet(place / "seed" / "tables" / "attribution_records.parquet")
    assert set(records["model"]) == {"seeds/seed-1"}


@pytest.mark.parametrize(
    ("more", "model", "message"),
    [
        ((), "seeds", "holds 2 fine-tuned models"),
        ((), "residues", "predicts 'label' of each residue"),
        ((), "nowhere", "a fine-tuned model is needed"),
        (("--method", "occlude"), "tuned", "--method 'occlude' is not a choice"),
        (("--class", "RBDs"), "tuned", "'RBDs' is no class of 'kind': other, RBD"),
        (("--labels", "id"), "tuned", "record 'ab0' has 'ab0' in 'id', which is no class"),
        (("--class", "RBD"), "number", "'kd' is a number and has no classes"),
        (("--control", "CONTROL"), "number", "the control predicts other, RBD, and the model a number"),
    ],
)
def test_bad_input_is_one_message(place, more, model, message):
    more = [place / "control" if each == "CONTROL" else each for each in more]
    status, _, err = explain(place, *more, model=model, out="bad")
    assert status == 1
    assert message in " ".join(err.split())
    assert "hint:" in err
    assert not (place / "bad").exists()


def test_proteins_without_regions(place, tmp_path):
    random = np.random.default_rng(0)
    rows = [f">p{n}\n{''.join(random.choice(list('MKTAYIAKQRGHP'), 30))}\n" for n in range(3)]
    (tmp_path / "p.fasta").write_text("".join(rows))
    make_run(tmp_path / "single", Target("classes", "sequence", ("x", "y", "z")), pair=False)
    given = ("--model", tmp_path / "single", "--input", tmp_path / "p.fasta", "--out", tmp_path / "run")
    status, out, err = protlm("explain", "attribution", *given, "--method", "occlusion")
    assert status == 0, err
    assert "3 of 3 chains are not numbered" in err
    assert "occlusion, area against random order" in out
    status, _, err = protlm("report", tmp_path / "run", "--out", tmp_path / "report.html")
    assert status == 0, err
    assert "No chain is numbered" in (tmp_path / "report.html").read_text()
