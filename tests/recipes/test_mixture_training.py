"""Training on several corpora: counts in the log and the Run, resume, tracks that only one has, leakage."""

import signal

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from protlm.data.corpus import Corpus, write_corpus
from protlm.data.numbering import number_records
from protlm.data.simulate import simulate_repertoire
from protlm.errors import ConfigError, Interrupted, RunError
from protlm.recipes.evaluated import say_leakage
from protlm.recipes.pretrain import PretrainConfig, pretrain
from protlm.runs import Run
from protlm.training.mlm_job import MlmJob
from protlm.types.record import Chain, Record

STEPS = 8
SHARE = {"kind": "linear", "start": 0.9, "end": 0.3}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Numbered pairs, and bare heavy chains without any track."""
    folder = tmp_path_factory.mktemp("corpora")
    pairs = list(number_records(simulate_repertoire(60, seed=1), receptor="antibody"))
    bare = [
        Record(f"u{n}", (Chain(r.chains[0].residues),)) for n, r in enumerate(simulate_repertoire(90, seed=2))
    ]
    return {
        "paired": str(write_corpus(folder / "paired", pairs[:50]).path),
        "unpaired": str(write_corpus(folder / "unpaired", bare).path),
        "eval": str(write_corpus(folder / "eval", pairs[50:]).path),
    }


def config_of(corpora, *, train=None, masking="region", **training):
    sources = [{"source": corpora["unpaired"], "share": SHARE}, {"source": corpora["paired"]}]
    return PretrainConfig.from_dict(
        {
            "data": {"train": sources if train is None else train, "eval": corpora["eval"]},
            "model": {"num_layers": 1, "hidden_size": 8, "num_heads": 2},
            "masking": masking,
            "training": {
                "max_steps": STEPS,
                "step_tokens": 3000,
                "micro_tokens": 1200,
                "eval_every": 4,
                "save_every": 3,
                "log_every": 2,
                "keep": "last",
                "tensorboard": False,
                "optimizer": {"warmup_steps": 2, "learning_rate": 1e-2},
                **training,
            },
            "seed": 3,
        }
    )


def run(config, out, **options):
    return pretrain(config, out, device="cpu", say=options.pop("say", lambda _: None), **options)


@pytest.fixture(scope="module")
def finished(corpora, tmp_path_factory):
    said = []
    folder = tmp_path_factory.mktemp("finished")
    return run(config_of(corpora), folder / "run", say=said.append), said


def train_lines(finished):
    return [line for line in finished.metrics() if line["split"] == "train"]


def test_the_log_has_the_scheduled_share_and_what_was_drawn(finished):
    lines = train_lines(finished[0])
    for line in lines:
        progress = (line["step"] - 1) / (STEPS - 1)
        assert line["share.unpaired"] == pytest.approx(0.9 - 0.6 * progress)
        assert line["share.paired"] == pytest.approx(0.1 + 0.6 * progress)
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    for name in ("unpaired", "paired"):
        counts = [line[f"records.{name}"] for line in lines]
        assert counts == sorted(counts)
        assert counts[-1] > counts[0] > 0
    # what is counted is what the model saw
    assert sum(line["tokens"] for line in lines) == lines[-1]["tokens.unpaired"] + lines[-1]["tokens.paired"]


def test_the_run_has_a_table_and_a_manifest_of_its_sources(finished, corpora):
    finished_run, said = finished
    table = pl.read_parquet(finished_run.table_path("sources"))
    assert table["source"].to_list() == ["unpaired", "paired"]
    last = train_lines(finished_run)[-1]
    assert table["records"].to_list() == [last["records.unpaired"], last["records.paired"]]
    # 0.6 in the mean over steps; early steps, with more of the short unpaired chains, have more records
    assert 0.6 < table["asked_share"][0] < 0.68
    assert table["asked_share"].sum() == pytest.approx(1)
    total = table["records"].sum()
    assert abs(table["record_share"][0] - table["asked_share"][0]) < 4.5 * (0.25 / total) ** 0.5
    assert table["record_share"].sum() == pytest.approx(1)
    assert table["epochs"].to_list() == pytest.approx([table["records"][0] / 90, table["records"][1] / 50])
    manifest = finished_run.read_json("data_manifest.json")["train"]
    assert manifest["num_records"] == 140
    assert [part["num_records"] for part in manifest["sources"]] == [90, 50]
    asked = table["asked_share"][0]
    assert any(line.startswith("unpaired: ") and f"asked {asked:.1%}" in line for line in said)


def test_residues_of_all_sources_are_counted_for_the_baselines(finished, corpora):
    """Only the pairs are numbered, so only they count."""
    counted = pl.read_parquet(finished[0].table_path("train_frequencies"))["count"].sum()
    pairs = Corpus(corpora["paired"])
    positions = pairs.gather(np.arange(len(pairs))).tracks["position"]
    assert counted == int((positions > 0).sum())


def test_records_without_the_track_are_masked_uniformly_and_said(finished):
    finished_run, said = finished
    table = {
        row["region"]: row for row in pl.read_parquet(finished_run.table_path("masking_rates")).to_dicts()
    }
    assert table["outside"]["asked"] == pytest.approx(0.15, abs=0.01)
    assert table["CDR3"]["asked"] == pytest.approx(0.25, abs=1e-9)
    assert table["all"]["asked"] == pytest.approx(0.15, abs=1e-9)
    records = pl.read_parquet(finished_run.table_path("sources"))["records"].to_list()
    assert any(line.startswith(f"{records[0]} of {sum(records)} drawn records lacked") for line in said)


def interrupt_at(monkeypatch, number):
    """Press Ctrl-C in the n-th forward pass, once."""
    calls, original = [], MlmJob.loss

    def watched(self, *args):
        calls.append(1)
        if len(calls) == number:
            signal.raise_signal(signal.SIGINT)
        return original(self, *args)

    monkeypatch.setattr(MlmJob, "loss", watched)


@pytest.mark.parametrize("call", [5, 12])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(finished, corpora, tmp_path, monkeypatch, call):
    interrupt_at(monkeypatch, call)
    with pytest.raises(Interrupted):
        run(config_of(corpora), tmp_path / "run")
    again = run(config_of(corpora), tmp_path / "run")
    one, other = (load_file(each.model_path / "model.safetensors") for each in (finished[0], again))
    assert all(torch.equal(one[name], other[name]) for name in one)
    lines = [
        [
            {name: value for name, value in line.items() if name != "tokens_per_second"}
            for line in each.metrics()
        ]
        for each in (finished[0], again)
    ]
    assert lines[0] == lines[1]
    assert pl.read_parquet(again.table_path("sources")).equals(
        pl.read_parquet(finished[0].table_path("sources"))
    )


def test_a_mixture_of_one_is_that_corpus(corpora, tmp_path):
    plain = run(config_of(corpora, train=corpora["paired"], max_steps=2), tmp_path / "plain")
    listed = run(config_of(corpora, train=[{"source": corpora["paired"]}], max_steps=2), tmp_path / "listed")
    one, other = (load_file(each.model_path / "model.safetensors") for each in (plain, listed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert "sources" not in listed.tables()


def test_scheduled_masking_is_logged_by_its_key(corpora, tmp_path):
    masking = {"kind": "region", "region_rates": {"CDR3": {"kind": "linear", "start": 0.15, "end": 0.5}}}
    lines = train_lines(run(config_of(corpora, train=corpora["paired"], masking=masking), tmp_path / "run"))
    key = "masking.region_rates.CDR3"
    assert [line[key] for line in lines] == pytest.approx([0.15 + 0.35 * step / 7 for step in (1, 3, 5, 7)])
    rates = pl.read_parquet(Run(tmp_path / "run").table_path("masking_rates"))
    asked = rates.filter(pl.col("region") == "CDR3")["asked"].item()
    assert 0.25 < asked < 0.40


def test_leakage_is_counted_over_all_sources(finished, corpora):
    records = [Corpus(corpora["paired"]).record(0), Corpus(corpora["unpaired"]).record(0)]
    facts = say_leakage(str(finished[0].path), records, lambda _: None)
    assert facts is not None
    assert (facts["shared_chains"], facts["chains"]) == (3, 3)


def test_other_data_in_one_source_refuses_to_resume(corpora, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, 4)
    source = tmp_path / "bare.fasta"
    source.write_text("".join(f">r{n}\n{'ACDEFGHIKL' * 9}\n" for n in range(30)))
    config = config_of(corpora, train=[{"source": corpora["paired"]}, {"source": str(source), "share": 0.5}])
    with pytest.raises(Interrupted):
        run(config, tmp_path / "run")
    source.write_text(">other\nACDEFGHIKL\n")
    with pytest.raises(RunError, match="other train data"):
        run(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([], "expected a source, or a list"),
        (3, "expected a source, or a list"),
        ([{"sourc": "a"}], r"train\.0: .*unknown key; did you mean 'source'"),
        ([{"source": "a"}, {"source": "b"}], "only one of the sources may be without a share"),
        ([{"source": "a", "share": 0.7}, {"source": "b", "share": 0.6}, {"source": "c"}], "add up to 1.3"),
        ([{"source": "a", "share": 0}, {"source": "b", "share": 0}], "no corpus has a share above 0"),
        (
            [{"source": "a", "share": {"kind": "linear", "start": 0.2, "end": 1.2}}, {"source": "b"}],
            "add up to 1",
        ),
    ],
    ids=str,
)
def test_a_wrong_mixture_is_named(train, message):
    with pytest.raises(ConfigError, match=f"(?s)data.train: .*{message}"):
        PretrainConfig.from_dict({"data": {"train": train}})
