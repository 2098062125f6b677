"""protlm tokenizer, and what it makes in training: from a FASTA file to a model of sub-words that resumes."""

import json
from itertools import islice

import polars as pl
import pytest
import torch
from transformers import AutoTokenizer
from typer.testing import CliRunner

from fixtures.builders import random_records
from protlm.cli.main import app
from protlm.data.corpus import CorpusWriter
from protlm.data.layout import TokenLayout
from protlm.errors import ConfigError, DataError, Interrupted, ModelError
from protlm.evaluation.segmentation import measure
from protlm.models.loading import load_model
from protlm.recipes.mask import preview_config, preview_masking
from protlm.recipes.pretrain import PretrainConfig, assemble, pretrain
from protlm.recipes.pretrain_plan import dry_run
from protlm.recipes.tokenizer import bench_tokenizers, find_layout, train_tokenizer
from protlm.report.masking_preview import preview_parts
from protlm.runs import Run
from protlm.training.mlm_job import MlmJob
from protlm.training.processes import Processes

LETTERS = "LLLAAAKKGSMED"


def invoke(*arguments):
    return CliRunner().invoke(app, ["tokenizer", *map(str, arguments)])


@pytest.fixture(scope="module")
def records():
    return random_records(80, seed=1, letters=LETTERS, lengths=(15, 50))


@pytest.fixture(scope="module")
def fasta(records, tmp_path_factory):
    """Single chains, one of them twice and one that is no protein."""
    path = tmp_path_factory.mktemp("input") / "proteins.fasta"
    chains = [record.chains[0].residues for record in records]
    lines = [f">p{number}\n{chain}" for number, chain in enumerate([*chains, chains[0], "MK-L"])]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def corpus(records, tmp_path_factory):
    with CorpusWriter(tmp_path_factory.mktemp("corpus") / "corpus") as writer:
        for number, record in enumerate(records):
            writer.add(record, subset="holdout" if number % 8 == 0 else "train")
        return writer.close().path


@pytest.fixture(scope="module")
def tokenizer(fasta, tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizer") / "words"
    train_tokenizer(fasta, out, num_merges=50, say=lambda _: None)
    return out


class TestTrain:
    def test_the_folder_is_what_protlm_and_hugging_face_read(self, tokenizer, records):
        layout = TokenLayout.load(tokenizer)
        assert len(layout.tokens) == 5 + 256 + 50
        plain = AutoTokenizer.from_pretrained(tokenizer)
        assert plain.get_vocab() == layout.ids
        facts = json.loads((tokenizer / "tokenizer_manifest.json").read_text())
        assert facts["chains_read"] == len(records) + 1
        assert facts["chains"] == len(records)
        assert facts["residues"] == sum(len(record.chains[0]) for record in records)
        assert facts["merges"] == facts["merges_asked"] == 50
        assert [each["name"] for each in facts["inputs"]] == ["proteins.fasta"]

    def test_what_is_dropped_is_said(self, fasta, tmp_path):
        said = []
        train_tokenizer(fasta, tmp_path / "words", num_merges=5, say=said.append)
        assert any("1 dropped: gap in the sequence" in line for line in said)
        assert "80 of 81 chains" in said[-2]
        assert said[-1].startswith("266 tokens, 5 merges")

    def test_vocabulary_size_counts_all_tokens(self, fasta, tmp_path):
        for kind, first in (("byte-bpe", 261), ("bpe", 31)):
            out = tmp_path / kind
            answer = invoke("train", fasta, "--kind", kind, "--vocab-size", first + 7, "--out", out)
            assert answer.exit_code == 0, answer.output
            assert answer.stdout == f"{out}\n"
            assert len(TokenLayout.load(out).merges) == 7

    def test_a_corpus_gives_what_its_chains_give(self, corpus, records, tmp_path):
        whole = train_tokenizer(corpus, tmp_path / "whole", num_merges=20, say=lambda _: None)
        part = train_tokenizer(f"{corpus}:holdout", tmp_path / "part", num_merges=20, say=lambda _: None)
        file = tmp_path / "all.fasta"
        chains = [chain.residues for record in records[::-1] for chain in record.chains]
        file.write_text("".join(f">{number}\n{chain}\n" for number, chain in enumerate(chains)))
        assert train_tokenizer(file, tmp_path / "file", num_merges=20, say=lambda _: None) == whole
        assert part != whole
        facts = json.loads((tmp_path / "part" / "tokenizer_manifest.json").read_text())
        assert facts["chains"] == sum(len(record.chains) for record in records[::8])

    def test_residue_level_needs_no_input(self, tmp_path):
        layout = train_tokenizer(None, tmp_path / "letters", kind="residue", say=lambda _: None)
        assert layout.is_residue_level
        assert AutoTokenizer.from_pretrained(tmp_path / "letters")("MKX")["input_ids"] == [
            layout.ids[token] for token in ("<s>", "M", "K", "X", "</s>")
        ]

    def test_fewer_merges_are_an_error_unless_allowed(self, fasta, tmp_path):
        asked = ("train", fasta, "--merges", 100_000, "--out", tmp_path / "words")
        with pytest.raises(DataError, match=r"merges and not 100,000 were found: .* 2 times or more"):
            train_tokenizer(fasta, tmp_path / "words", num_merges=100_000, say=lambda _: None)
        assert not (tmp_path / "words").exists()
        assert invoke(*asked, "--allow-fewer").exit_code == 0
        assert 50 < len(TokenLayout.load(tmp_path / "words").merges) < 100_000

    def test_a_folder_that_is_there_is_kept(self, fasta, tmp_path):
        out = tmp_path / "words"
        invoke("train", fasta, "--merges", 3, "--out", out)
        assert "holds a tokenizer" in str(invoke("train", fasta, "--merges", 4, "--out", out).exception)
        assert invoke("train", fasta, "--merges", 4, "--out", out, "--force").exit_code == 0
        assert len(TokenLayout.load(out).merges) == 4
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "file").write_text("mine")
        answer = invoke("train", fasta, "--merges", 4, "--out", tmp_path / "mine", "--force")
        assert "is not a tokenizer folder" in str(answer.exception)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--merges", 5, "--vocab-size", 300), "say the same"),
            (("--vocab-size", 261), "0 merges are none"),
            (("--kind", "residue", "--merges", 5), "has no merges"),
            (("--kind", "wordpiece"), "not a choice"),
        ],
    )
    def test_settings_that_do_not_go_together(self, fasta, tmp_path, options, message):
        answer = invoke("train", fasta, "--out", tmp_path / "words", *options)
        assert isinstance(answer.exception, ConfigError)
        assert message in str(answer.exception)

    def test_input_is_needed_for_merges(self, tmp_path):
        answer = invoke("train", "--out", tmp_path / "words")
        assert "needs an INPUT" in str(answer.exception)


class TestBench:
    def test_its_numbers_are_those_of_the_measures(self, tokenizer, fasta, records, tmp_path):
        out = tmp_path / "bench.parquet"
        table = bench_tokenizers(["residue", str(tokenizer)], fasta, out=out, say=lambda _: None)
        assert pl.read_parquet(out).equals(table)
        chains = [record.chains[0].residues for record in records]
        expected = measure(chains, TokenLayout.load(tokenizer))
        got = table.row(1, named=True)
        for name in ("n", "n_tokens", "compression", "over_512", "resegmented", "resegmented_tokens"):
            assert got[name] == pytest.approx(expected[name]), name
        assert table["compression"][0] == 0
        assert 0.3 < table["compression"][1] < 0.7
        assert table["resegmented"].to_list()[0] == 0 < table["resegmented"].to_list()[1]

    def test_its_text_has_n_and_intervals(self, tokenizer, fasta):
        answer = invoke("bench", "esm", tokenizer, "--input", fasta, "--max-records", 50)
        assert answer.exit_code == 0, answer.output
        assert "50 sequences" in answer.stdout
        assert "one substitution in each of 50 [95 % interval]" in answer.stdout
        assert "1.00 [1.00, 1.00]" in answer.stdout
        lines = invoke("bench", "esm", "residue", "--input", fasta, "--json").stdout.splitlines()
        assert [json.loads(line)["tokenizer"] for line in lines] == ["esm", "residue"]

    def test_residues_that_a_vocabulary_lacks_are_told(self, tmp_path):
        (tmp_path / "odd.fasta").write_text(">a\nMKBZ\n>b\nMKT\n")
        answer = invoke("bench", "balm", "--input", tmp_path / "odd.fasta")
        assert "balm: 2 residues are not in the vocabulary" in answer.stdout

    def test_names(self, tokenizer):
        assert find_layout(str(tokenizer)).merges
        assert find_layout("residue").is_residue_level
        with pytest.raises(ModelError, match="there is no model 'nothing'"):
            find_layout("nothing")


class TestTraining:
    @pytest.fixture
    def config_of(self, corpus, tokenizer):
        def build(*, masking="uniform", max_tokens=64, **data):
            return PretrainConfig.from_dict(
                {
                    "data": {"train": f"{corpus}:train", "eval": f"{corpus}:holdout", **data},
                    "model": {
                        "kind": "roberta",
                        "num_layers": 1,
                        "hidden_size": 16,
                        "num_heads": 2,
                        "max_tokens": max_tokens,
                        "vocabulary": str(tokenizer),
                    },
                    "masking": masking,
                    "training": {
                        "max_steps": 6,
                        "step_tokens": 200,
                        "eval_every": 3,
                        "tensorboard": False,
                        "optimizer": {"learning_rate": 0.01},
                    },
                    "seed": 3,
                }
            )

        return build

    def job_of(self, config, out):
        said = []
        run = Run.create(out, verb="pretrain", force=True)
        parts = assemble(config, run, processes=Processes(torch.device("cpu"), launched=1), say=said.append)
        return parts.job, said

    def test_steps_count_tokens(self, config_of, tmp_path):
        job, _ = self.job_of(config_of(), tmp_path / "run")
        for drawn in islice(job.sources.steps(0), 12):
            lengths = job.sources.lengths_of(drawn)
            assert lengths.sum() <= 200
            _, micro_batches = next(job.steps(drawn.step))
            assert sorted(micro_batches[0].batch.lengths.tolist()) == sorted(lengths.tolist())

    def test_long_records_are_those_of_many_tokens(self, config_of, tmp_path):
        job, said = self.job_of(config_of(max_tokens=24, long_records="drop"), tmp_path / "run")
        corpus, rows = job.sources.sources[0].corpus, job.sources.sources[0].rows
        assert any("left out: over the limit of 24 tokens" in line for line in said)
        assert corpus.lengths[rows].max() > 24  # residues
        assert job.sources.lengths[0].max() <= 24
        with pytest.raises(DataError, match="over the model's limit of 24 tokens"):
            self.job_of(config_of(max_tokens=24), tmp_path / "other")

    def test_windows_of_long_records_fit(self, config_of, tmp_path):
        job, _ = self.job_of(config_of(max_tokens=24, long_records="crop"), tmp_path / "run")
        for _, micro_batches in islice(job.steps(0), 8):
            assert all(each.batch.lengths.max() <= 24 for each in micro_batches)

    def test_a_run_learns_resumes_with_the_same_bits_and_loads(self, config_of, tmp_path, monkeypatch):
        config = config_of()
        expected = pretrain(config, tmp_path / "whole", device="cpu", say=lambda _: None)
        calls = []
        loss = MlmJob.loss

        def stop_once(job, *arguments):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return loss(job, *arguments)

        monkeypatch.setattr(MlmJob, "loss", stop_once)
        with pytest.raises((Interrupted, KeyboardInterrupt)):
            pretrain(config, tmp_path / "resumed", device="cpu", say=lambda _: None)
        resumed = pretrain(config, tmp_path / "resumed", device="cpu", say=lambda _: None)
        one, other = (each.model_path / "model.safetensors" for each in (expected, resumed))
        assert one.read_bytes() == other.read_bytes()
        rates = pl.read_parquet(expected.table_path("masking_rates"))
        assert rates.filter(pl.col("region") == "all")["asked"].item() == pytest.approx(0.15)
        model = load_model(expected.path, device="cpu")
        assert not model.layout.is_residue_level

    def test_a_dry_run_parts_sub_words(self, config_of, tmp_path):
        text = dry_run(config_of(), tmp_path / "run", device="cpu", say=lambda _: None)
        assert "masked sub-words in lower case or as _" in text
        assert "<s>·" in text

    def test_a_preview_marks_whole_sub_words(self, corpus, tokenizer, tmp_path):
        overrides = ["masking.kind=uniform", "masking.mean_rate=0.4", "seed=2"]
        with CorpusWriter(tmp_path / "one") as writer:
            for record in random_records(3, seed=9, letters="LA", pairs=False, lengths=(40, 50)):
                writer.add(record)
            source = writer.close().path
        shown = preview_masking(
            preview_config(None, str(source), overrides), model=str(tokenizer), say=lambda _: None
        )
        (chain,) = shown.records[0].chains
        layout = TokenLayout.load(tokenizer)
        pieces = [token for index, token in enumerate(chain.tokens) if chain.starts[index] == index]
        assert "".join(pieces) == chain.residues
        assert len(pieces) < len(chain.residues)
        for index, token in enumerate(chain.tokens):
            assert chain.selected[index] == chain.selected[chain.starts[index]]
            assert chain.residues[chain.starts[index] :].startswith(token)
            assert chain.became[index] in layout.ids
        lines = [part.plain for part in preview_parts(shown, width=200) if hasattr(part, "plain")]
        assert lines[1].split()[2] == "·".join(pieces)
        columns = [place for place, letter in enumerate(lines[1]) if place >= 13 and letter != "·"]
        hidden = [index for index, token in enumerate(chain.became) if token == "<mask>"]
        assert hidden
        assert all(lines[2][columns[index]] == "#" for index in hidden)
        rates = shown.rates.filter(pl.col("group") == "all")
        assert rates["n_residues"].item() == 20 * sum(len(each.chains[0].residues) for each in shown.records)
        assert rates["asked"].item() == pytest.approx(0.4)
        assert shown.are_joint
