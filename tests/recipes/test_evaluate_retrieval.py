"""evaluate retrieval through the real command line, with towers written by hand; and bad input to it."""

import contextlib
import io
import json
import sys
import zlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch

from fixtures.backbones import HELIX, STRAND, backbone_of_angles
from protlm.cli.main import main
from protlm.data.backbone_tables import BackboneWriter
from protlm.data.structure_pairs import sequence_digest
from protlm.errors import ConfigError, ModelError
from protlm.evaluation.angle_matcher import ANGLES
from protlm.evaluation.retrieval_baselines import COMPOSITIONS
from protlm.models.precomputed import PrecomputedVectors
from protlm.models.projection import ProjectionConfig
from protlm.recipes import evaluate_retrieval as recipe
from protlm.recipes.retrieval_vectors import towers_digest
from protlm.report.page import write_report
from protlm.runs import Run


class HandTowers:
    """Gives a sequence and its structure one vector, but for as many as it is told to confuse."""

    def __init__(self, name, *, confuses=0, is_trained=True):
        self.name, self.confuses, self.is_trained = name, confuses, is_trained
        self.calls = 0

    def state_dict(self):
        return {
            "w": torch.tensor([float(self.confuses), float(self.is_trained), zlib.crc32(self.name.encode())])
        }

    def embed_sequences(self, records, *, on_batch=None):
        self.calls += 1
        on_batch(len(records))
        return np.stack([vector("".join(chain.residues for chain in record.chains)) for record in records])

    def embed_structures(self, backbones, *, on_batch=None):
        on_batch(len(backbones))
        found = np.stack([vector(each.residues) for each in backbones])
        found[: self.confuses] = -found[: self.confuses]
        return found if self.is_trained else np.roll(found, 1, axis=0)

    def untrained(self, seed):
        return HandTowers(f"{self.name}-{seed}", is_trained=False)


def vector(text):
    found = np.random.default_rng(zlib.crc32(text.encode())).normal(size=16)
    return (found / np.linalg.norm(found)).astype(np.float32)


def chains(count=60, *, first=0):
    """Chains of helix and strand in four folds; the last two have one sequence."""
    random, found = np.random.default_rng(first), []
    for row in range(count):
        size, helix = 70 + row % 9, int(random.integers(10, 60))
        angles = [HELIX] * helix + [STRAND] * (size - helix)
        letters = [*random.choice(list("AELKM"), helix), *random.choice(list("VITYG"), size - helix)]
        plain = backbone_of_angles(f"d{first + row}", "".join(letters), angles)
        found.append(shaken(plain, random))
    return [*found[:-1], replace(shaken(found[-2], random), id=found[-1].id)]


def shaken(backbone, random):
    """Move every atom a little, so that no two structures are the same."""
    noise = random.normal(scale=0.02, size=backbone.coordinates.shape)
    return replace(backbone, coordinates=backbone.coordinates + noise)


def write(path, backbones, folds=4):
    with BackboneWriter(path, {"fold": pa.string()}) as writer:
        for row, each in enumerate(backbones):
            writer.add(each, {"fold": f"fold {row % folds}"})
    return path


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


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    return write(tmp_path_factory.mktemp("structures") / "domains.parquet", chains())


def contrast_run(path, structures, *, trained=30, group: str | None = "fold"):
    """Make what contrast leaves behind, without a model: the first rows are training pairs."""
    run = Run.create(path, verb="contrast")
    run.write_config(json.dumps({"data": {"group": group}}))
    table = pl.read_parquet(structures).select("id", "sequence", "fold")
    sides = ["train"] * trained + ["test"] * (len(table) - trained)
    table.select(
        "id",
        sequence_digest=pl.col("sequence").map_elements(sequence_digest, pl.String),
        cluster=pl.col("fold").rank("dense"),
        side=pl.Series(sides),
    ).write_parquet(run.table_path("pairs"))
    run.write_json("data_manifest.json", {"pairs": {"source": str(structures)}})
    (run.path / "heads").mkdir()
    (run.path / "heads/heads.json").write_text("{}")
    run.finish()
    return path


def value(table, model, metric, gallery, direction="sequence to structure"):
    where = {"model": model, "metric": metric, "gallery": gallery, "direction": direction}
    for name, word in where.items():
        table = table.filter(pl.col(name) == word)
    return table["value"].item()


def test_from_structures_to_tables_and_report(tmp_path, structures, monkeypatch):
    run_path = contrast_run(tmp_path / "clip", structures)
    monkeypatch.setattr(recipe, "_load", lambda member, device: HandTowers("clip"))
    out = tmp_path / "out"
    options = ["--structures", structures, "--out", out, "--crop", 32, "--others", 7, "--untrained", 2]
    status, text, talk = protlm("evaluate", "retrieval", "--model", run_path, *options, "--gallery", "all",
                                "--gallery", "full", "--gallery", "in-cluster", "--gallery", "hard",
                                "--gallery", "cropped", "--gallery", "sampled")  # fmt: skip
    assert status == 0, talk
    assert "30 of 60 pairs" in talk
    assert "the side 'test'" in talk
    assert "fitted on 30 training pairs" in talk
    assert "clip: 0 of 29 sequences and 4 of 4 clusters are in the training pairs" in talk
    assert "29 distinct of 30 pairs; 1 of identical sequences left out" in talk
    run = Run.open(out)
    table = pl.read_parquet(run.table_path("retrieval"))
    assert set(table["gallery"]) == {
        *("all", "full", "in-cluster", "hard-composition", "hard-length", "cropped", "sampled")
    }
    for gallery in set(table["gallery"]) - {"all"}:
        assert value(table, "clip", "recall_1", gallery) == pytest.approx(1)
        assert value(table, "ceiling", "recall_1", gallery) == pytest.approx(1)
    # two of thirty have one sequence: a ceiling that the model reaches and cannot pass
    assert value(table, "ceiling", "recall_1", "all") == pytest.approx(29 / 30)
    assert value(table, "clip", "recall_1", "all") == pytest.approx(29 / 30)
    assert value(table, "chance", "recall_1", "full") == pytest.approx(1 / 29)
    assert value(table, "chance", "recall_1", "sampled") == pytest.approx(1 / 8)
    assert value(table, "clip, untrained", "recall_1", "full") < 0.5
    assert value(table, "composition", "mrr", "full") > 2 * value(table, "chance", "mrr", "full")
    assert value(table, "length", "recall_1", "full") > value(table, "chance", "recall_1", "full")
    assert value(table, "length, uncropped", "recall_1", "sampled") > 1 / 8
    ranks = pl.read_parquet(run.table_path("ranks"))
    per_query = ranks.filter((pl.col("model") == "clip") & (pl.col("gallery") == "full"))
    assert len(per_query) == 2 * 29
    assert set(per_query["rank"]) == {1.0}
    space = pl.read_parquet(run.table_path("retrieval_space"))
    alignments = space.filter((pl.col("model") == "clip") & (pl.col("metric") == "alignment"))
    assert alignments["value"].to_list() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert "clip, sampled, sequence to structure, beside any baseline" in text
    assert run.read_json("data_manifest.json")["leakage"]["clip"]["shared_groups"] == 4
    page = write_report([out], tmp_path / "report.html").read_text()
    assert "Retrieval: out" in page
    assert "R@1 of models and baselines by gallery and direction" in page
    assert "Similarities of some pairs under clip" in page
    assert "4 of 4 groups were in its training data" in page


def test_a_model_below_is_said_in_red_and_seeds_are_shown_one_by_one(tmp_path, structures):
    towers = [HandTowers("good"), HandTowers("bad", confuses=60)]
    run = recipe.evaluate_retrieval(
        towers, structures, tmp_path / "out", cluster="fold", galleries=["full"], untrained=1, num_draws=100
    )
    differences = pl.read_parquet(run.table_path("retrieval_differences"))
    first = differences.filter(pl.col("metric") == "recall_1").unique(["model"], maintain_order=True)
    assert dict(zip(first["model"], first["verdict"], strict=True)) == {"good": "above", "bad": "below"}
    page = write_report([tmp_path / "out"], tmp_path / "report.html").read_text()
    assert "BELOW OR EQUAL" in page
    assert "leakage is not known" in " ".join(run.read_json("data_manifest.json")["reading"])


def test_a_folder_of_seeds_is_one_model(tmp_path, structures, monkeypatch):
    for seed in (0, 1):
        contrast_run(tmp_path / "clip" / f"seed-{seed}", structures)
    made = {"seed-0": HandTowers("seed-0"), "seed-1": HandTowers("seed-1", confuses=60)}
    monkeypatch.setattr(recipe, "_load", lambda member, device: made[str(member)[-6:]])
    run = recipe.evaluate_retrieval(
        [tmp_path / "clip"], structures, tmp_path / "out", galleries=["full"], untrained=0, num_draws=50
    )
    table = pl.read_parquet(run.table_path("retrieval"))
    both = [value(table, f"clip, seed-{seed}", "recall_1", "full") for seed in (0, 1)]
    assert both == pytest.approx([1, 0])
    assert value(table, "clip", "recall_1", "full") == pytest.approx(0.5)
    assert set(table.filter(pl.col("model") == "clip")["n_seeds"]) == {2}


def test_groups_of_the_run_stand_in_where_it_names_no_column(tmp_path, structures, monkeypatch):
    path = contrast_run(tmp_path / "clip", structures, group=None)
    monkeypatch.setattr(recipe, "_load", lambda member, device: HandTowers("clip"))
    run = recipe.evaluate_retrieval(
        [path], structures, tmp_path / "out", galleries=["in-cluster"], untrained=0, num_draws=10
    )
    table = pl.read_parquet(run.table_path("retrieval"))
    assert set(table["n_groups"]) == {4}
    assert run.read_json("data_manifest.json")["leakage"]["clip"]["shared_groups"] == 4


def test_a_file_without_the_column_of_the_run_is_judged_too(tmp_path, structures, monkeypatch):
    path = contrast_run(tmp_path / "clip", structures)
    monkeypatch.setattr(recipe, "_load", lambda member, device: HandTowers("clip"))
    other = tmp_path / "other.parquet"
    with BackboneWriter(other) as writer:
        for each in chains(20, first=100):
            writer.add(each)
    options = {"galleries": ["full"], "untrained": 0, "num_draws": 10}
    run = recipe.evaluate_retrieval([path], other, tmp_path / "out", **options)
    assert run.read_config()["cluster"] is None
    assert set(pl.read_parquet(run.table_path("retrieval"))["n_groups"]) == {19}
    assert (
        recipe.evaluate_retrieval([path], structures, tmp_path / "own", **options).read_config()["cluster"]
        == "fold"
    )


def test_pairs_of_a_run_of_before_tell_sides_but_not_leakage(tmp_path, structures, monkeypatch):
    path = contrast_run(tmp_path / "clip", structures)
    table = Run.open(path).table_path("pairs")
    pl.read_parquet(table).rename({"sequence_digest": "sequence_key"}).write_parquet(table)
    monkeypatch.setattr(recipe, "_load", lambda member, device: HandTowers("clip"))
    run = recipe.evaluate_retrieval(
        [path], structures, tmp_path / "out", galleries=["full"], untrained=0, num_draws=10
    )
    facts = run.read_json("data_manifest.json")
    assert facts["leakage"] == {"clip": None}
    said = " ".join(facts["reading"])
    assert "30 of 60 pairs" in said
    assert "fitted on 30 training pairs" in said
    assert "clip: leakage is not known" in said


def test_clusters_of_every_run_are_counted_by_its_own_split(tmp_path, structures, monkeypatch):
    folds = pl.read_parquet(structures)["fold"].to_list()
    for name, taught in {"one": {"fold 0"}, "two": {"fold 1", "fold 2"}}.items():
        path = contrast_run(tmp_path / name, structures)
        table = Run.open(path).table_path("pairs")
        sides = ["train" if fold in taught else "test" for fold in folds]
        pl.read_parquet(table).with_columns(side=pl.Series(sides)).write_parquet(table)
    monkeypatch.setattr(recipe, "_load", lambda member, device: HandTowers(member.name))
    run = recipe.evaluate_retrieval(
        [tmp_path / "one", tmp_path / "two"],
        structures,
        tmp_path / "out",
        side="all",
        galleries=["full"],
        untrained=0,
        num_draws=10,
    )
    facts = run.read_json("data_manifest.json")["leakage"]
    assert {name: each["shared_groups"] for name, each in facts.items()} == {"one": 1, "two": 2}
    assert {name: each["groups"] for name, each in facts.items()} == {"one": 4, "two": 4}


def test_models_are_looked_at_before_anything_else(tmp_path, structures):
    path = contrast_run(tmp_path / "clip", structures)
    (path / "DONE").unlink()
    for model, said in ((path, "is not finished"), (tmp_path / "nosuch", "holds no pair of towers")):
        status, _, talk = protlm(
            *("evaluate", "retrieval", "--model", model, "--structures", structures),
            *("--out", tmp_path / "out"),
        )
        assert status == 1
        assert said in talk
        assert "leakage" not in talk
        assert not (tmp_path / "out").exists()


def test_vectors_of_whole_structures_are_not_shown_windows(tmp_path, structures):
    towers = HandTowers("m")
    looked_up = PrecomputedVectors({"d0": np.ones(4)}, name="plm", identity="x")
    towers.structure = SimpleNamespace(encoder=looked_up)
    options = {"cluster": "fold", "untrained": 0, "num_draws": 10}
    with pytest.raises(ConfigError, match="m looks up vectors of whole structures"):
        recipe.evaluate_retrieval([towers], structures, tmp_path / "out", crop=32, **options)
    recipe.evaluate_retrieval([towers], structures, tmp_path / "out", galleries=["full"], **options)


def test_towers_that_differ_in_settings_alone_differ():
    def towers(*, segments=1, last="none"):
        made = HandTowers("same")
        made.sequence = SimpleNamespace(kind="mean", segments=segments)
        made.sequence_head = SimpleNamespace(settings=ProjectionConfig(last_activation=last))
        return towers_digest(made)

    assert len({towers(), towers(segments=4), towers(last="gelu")}) == 3
    assert towers() == towers()


def test_vectors_are_read_once_and_a_finished_run_is_kept(tmp_path, structures):
    towers = HandTowers("m")
    options = {"cluster": "fold", "galleries": ["full"], "untrained": 0, "num_draws": 10}
    recipe.evaluate_retrieval([towers], structures, tmp_path / "out", **options)
    (tmp_path / "out" / "DONE").unlink()  # as after an interruption
    recipe.evaluate_retrieval([towers], structures, tmp_path / "out", **options)
    assert towers.calls == 1
    status, _, talk = protlm("evaluate", "retrieval", "--structures", structures, "--out", tmp_path / "out")
    assert status == 1
    assert "finished" in talk


def test_another_file_of_training_pairs_and_its_leakage(tmp_path, structures):
    train = write(tmp_path / "train.parquet", [*chains(40, first=100), chains()[5]], folds=3)
    status, text, talk = protlm(
        *("evaluate", "retrieval", "--structures", structures, "--train", train, "--cluster", "fold"),
        *("--out", tmp_path / "out", "--gallery", "full", "--json"),
    )
    assert status == 0, talk
    assert "--train: 1 of 59 sequences and 3 of 4 clusters are in the training pairs" in talk
    rows = [json.loads(line) for line in text.splitlines()]
    assert {row["model"] for row in rows} == {"length", ANGLES, *COMPOSITIONS, "chance", "ceiling"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cluster", "fould"], "did you mean 'fold'"),
        (["--gallery", "samples"], "did you mean 'sampled'"),
        (["--side", "train"], "--side 'train' is not a choice"),
        (["--crop", "500", "--gallery", "sampled"], "0 of 59 pairs have 500 residues"),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_named(tmp_path, structures, options, said):
    status, _, talk = protlm(
        "evaluate", "retrieval", "--structures", structures, "--out", tmp_path / "out", *options
    )
    assert status == 1
    assert said in talk
    assert "Traceback" not in talk


def test_vectors_that_are_no_unit_vectors_are_refused_by_name(tmp_path, structures):
    class Broken(HandTowers):
        def embed_structures(self, backbones, *, on_batch=None):
            found = super().embed_structures(backbones, on_batch=on_batch)
            found[3] = np.nan
            return found

    with pytest.raises(ModelError, match="the structure vector of 'd3' is not finite"):
        recipe.evaluate_retrieval([Broken("m")], structures, tmp_path / "out", galleries=["full"])
    with pytest.raises(ModelError, match="called 'length'"):
        recipe.evaluate_retrieval([HandTowers("length")], structures, tmp_path / "other")
    with pytest.raises(ModelError, match="two models are called 'm'"):
        recipe.evaluate_retrieval([HandTowers("m")] * 2, structures, tmp_path / "other")
