"""mask preview: its numbers are those of the draws, its text shows them, its settings are a training's."""

import json
from collections import Counter
from io import StringIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from protlm.cli.main import app
from protlm.data.collate import collate
from protlm.data.corpus import write_corpus
from protlm.data.flat import flatten_records
from protlm.data.layout import esm_layout
from protlm.data.simulate import repertoire_frame, simulate_repertoire
from protlm.errors import ConfigError, DataError
from protlm.masking.corrupt import corrupt
from protlm.masking.policies import UniformMasking
from protlm.masking.selection import Draw
from protlm.recipes.mask import _counts, as_plain, preview_config, preview_masking
from protlm.recipes.prepare import prepare
from protlm.recipes.pretrain import PretrainConfig
from protlm.report.masking_preview import MaskedChain, MaskedRecord, MaskingPreview, preview_parts
from protlm.types.record import Chain, Record, Role
from protlm.types.regions import Region

PRESETS = sorted((Path(__file__).parents[2] / "configs" / "masking").glob("*.yaml"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Simulated pairs with true segments and mutations, regions by thirds, and a single chain."""
    records = []
    for record in simulate_repertoire(30, seed=1):
        chains = []
        for chain in record.chains:
            region = np.sort(np.arange(len(chain)) * 7 // len(chain) + 1).astype(np.uint8)
            chains.append(Chain(chain.residues, role=chain.role, tracks={**chain.tracks, "region": region}))
        records.append(Record(record.id, tuple(chains), group=record.group))
    records.append(Record("alone", (Chain("ACDEFGHIKLMNPQRSTVWX"),)))
    return str(write_corpus(tmp_path_factory.mktemp("corpus") / "corpus", records).path)


def preview(corpus, *overrides, **options):
    return preview_masking(preview_config(None, corpus, overrides), say=lambda _: None, **options)


def test_what_is_shown_is_what_training_draws_in_the_first_epoch(corpus):
    shown = preview(corpus, "masking.kind=uniform", "masking.mean_rate=0.3", "seed=4", num_records=50)
    assert len(shown.records) == shown.num_records == 31
    for record in shown.records:
        chains = tuple(Chain(chain.residues) for chain in record.chains)
        batch = collate(flatten_records([Record(record.id, chains)]), esm_layout())
        draw = Draw(seed=4)
        drawn = corrupt(batch, UniformMasking(mean_rate=0.3)(batch, draw), esm_layout(), draw=draw)
        for place, chain in enumerate(record.chains):
            own = batch.chain_index == place
            tokens = [esm_layout().tokens[token] for token in drawn.batch.tokens[own].tolist()]
            assert list(chain.became) == tokens
            selected = np.isin(np.flatnonzero(own.numpy()), drawn.rows.numpy())
            assert chain.selected.tolist() == selected.tolist()


def test_rates_are_counted_over_all_epochs_and_groups_add_up(corpus):
    shown = preview(corpus, num_epochs=7)
    rates = shown.rates
    residues = sum(
        letter != "X"
        for record in preview(corpus, num_records=99).records
        for c in record.chains
        for letter in c.residues
    )
    total = rates.filter(pl.col("group") == "all").row(0, named=True)
    assert total["n_residues"] == 7 * residues
    assert total["asked"] == pytest.approx(0.15, abs=1e-12)
    for group in ("chain", "region", "segment", "mutated"):
        part = rates.filter(pl.col("group") == group)
        assert part["n_residues"].sum() == total["n_residues"], group
        for name in ("asked", "observed"):
            mean = (part[name] * part["n_residues"]).sum() / total["n_residues"]
            assert mean == pytest.approx(total[name], abs=1e-12)
    cdr3 = rates.filter(pl.col("name") == "CDR3").row(0, named=True)
    assert cdr3["asked"] == pytest.approx(0.25, abs=1e-12)
    assert cdr3["low"] < cdr3["observed"] < cdr3["high"]
    assert set(rates.filter(pl.col("group") == "chain")["name"]) == {"heavy", "light", "chain1"}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_gives_the_rates_it_asks_for(path, corpus):
    """An interval of 95 % may miss one in twenty; five times its half width may not."""
    shown = preview_masking(preview_config(path, corpus, []), num_epochs=15, say=lambda _: None)
    for row in shown.rates.iter_rows(named=True):
        middle, half = (row["low"] + row["high"]) / 2, (row["high"] - row["low"]) / 2
        assert abs(row["asked"] - middle) <= 2.5 * half + 1e-12, row
    assert preview_parts(shown, width=80)


def test_presets_are_all_there():
    assert {"ng-briney-preferential", "abcdr-esm-hybrid"} <= {path.stem for path in PRESETS}


def test_intervals_of_spans_are_as_wide_as_they_vary(corpus):
    """Over 40 seeds about 95 % of the intervals hold the asked rate; binomial ones would hold far fewer."""
    held = {True: 0, False: 0}
    for seed in range(40):
        shown = preview(
            corpus, "masking.kind=span", "masking.mean_length=6", f"seed={seed}", num_epochs=4, num_records=0
        )
        assert shown.are_joint
        row = shown.rates.row(0, named=True)
        held[row["low"] <= row["asked"] <= row["high"]] += 1
    assert held[True] >= 34


def test_schedules_are_written_out_and_taken_at_the_asked_progress(corpus):
    schedule = "masking.mean_rate={kind: linear, start: 0.1, end: 0.5}"
    shown = preview(corpus, "masking.kind=uniform", schedule, progress=0.5)
    assert shown.schedules == {
        "masking.mean_rate": pytest.approx({0.0: 0.1, 0.25: 0.2, 0.5: 0.3, 0.75: 0.4, 1.0: 0.5})
    }
    assert shown.rates["asked"][0] == pytest.approx(0.3)


def test_records_that_fall_back_are_counted(corpus):
    shown = preview(corpus, "masking.kind=chain", "masking.which=heavy", num_epochs=3)
    assert shown.num_fell_back == 1
    assert "1.0 of 31 records" in text_of(shown)


def test_records_over_the_models_limit_are_left_out_and_counted(corpus):
    said = []
    config = preview_config(None, corpus, ["model.max_tokens=60", "masking.kind=uniform"])
    shown = preview_masking(config, say=said.append)
    assert (shown.num_records, said) == (1, ["30 records left out: over the model's limit of 60 tokens"])


def text_of(shown, width=80, **options):
    stream = StringIO()
    console = Console(file=stream, width=width, highlight=False, **options)
    for part in preview_parts(shown, width=width):
        console.print(part)
    return stream.getvalue()


class TestText:
    @pytest.fixture
    def by_hand(self):
        residues = "ACDEFGHIKL" * 7
        regions = np.array([Region.FR1] * 62 + [Region.CDR3] * 8, dtype=np.uint8)
        selected = np.zeros(70, dtype=bool)
        selected[[0, 2, 4, 65]] = True
        became = list(residues)
        became[0], became[2], became[65] = "<mask>", "W", "<eos>"
        chain = MaskedChain("heavy", residues, regions, np.full(70, 0.1), selected, tuple(became))
        rates = pl.DataFrame(
            [("all", "all", 70, 0.1, 4 / 70, 0.02, 0.13), ("region", "CDR3", 8, 0.5, 1 / 8, 0.02, 0.4)],
            schema=["group", "name", "n_residues", "asked", "observed", "low", "high"],
            orient="row",
        )
        return MaskingPreview(
            settings={},
            mask_token="<mask>",
            progress=0.0,
            num_epochs=1,
            rates=rates,
            num_records=1,
            records=(MaskedRecord("r1", (chain,)),),
            num_fell_back=0,
            are_joint=False,
            schedules={},
        )

    def test_marks_and_ruler_stand_under_their_residues(self, by_hand):
        lines = text_of(by_hand).splitlines()
        assert lines[0] == "r1  4 of 70 selected, 7.0 expected"
        assert lines[1] == "heavy      1 " + "ACDEFGHIKL" * 6
        assert lines[2] == " " * 13 + "# w ="
        assert lines[3] == " " * 13 + "FR1" + "─" * 56 + "┤"
        assert lines[4] == "          61 ACDEFGHIKL"
        assert lines[5] == " " * 18 + "?"
        assert lines[6] == " " * 13 + "─┤CDR3───┤"

    def test_nothing_is_wider_than_the_terminal(self, by_hand):
        for width in (60, 80, 100):
            assert max(len(line.rstrip()) for line in text_of(by_hand, width).splitlines()) <= width

    def test_colour_only_where_there_is_a_terminal(self, by_hand):
        assert "\x1b[" not in text_of(by_hand)
        assert "\x1b[1;37;44mA" in text_of(by_hand, force_terminal=True, color_system="standard")

    def test_a_rate_outside_its_interval_is_marked_and_explained(self, by_hand):
        text = text_of(by_hand)
        assert "2.00% – 40.00% *" in text
        assert "asked is outside the interval in 1 of 2 rows" in text


class TestCommand:
    def test_prints_json_for_machines(self, corpus):
        result = CliRunner().invoke(
            app,
            [
                "mask",
                "preview",
                "--input",
                corpus,
                "--records",
                "1",
                "--epochs",
                "2",
                "--seed",
                "3",
                "--json",
            ],
        )
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert found["seed"] == 3
        assert found["epochs"] == 2
        assert found["masking"] == {
            "kind": "region",
            "region_rates": {"CDR3": 0.25},
            "mean_rate": 0.15,
            "other_rate": None,
        }
        (record,) = found["records"]
        again = as_plain(preview(corpus, "seed=3", num_records=1, num_epochs=2))
        assert record == again["records"][0]
        chain = record["chains"][0]
        assert len(chain["selected"]) == len(chain["became"]) > 0
        assert len(chain["probabilities"]) == len(chain["residues"])

    def test_takes_the_data_of_its_settings_and_reads_files(self, tmp_path):
        fasta = tmp_path / "two.fasta"
        fasta.write_text(">a\nACDEFGHIKL\n>b\nMNPQRSTVWY\n")
        config = tmp_path / "settings.yaml"
        config.write_text(f"data: {{train: {fasta}}}\nmasking: {{kind: uniform, mean_rate: 1.0}}\n")
        result = CliRunner().invoke(app, ["mask", "preview", "--config", str(config)])
        assert result.exit_code == 0, result.output
        assert "10 of 10 selected, 10.0 expected" in result.stdout
        assert "chain1" in result.stdout

    def test_says_what_is_missing(self, corpus):
        with pytest.raises(ConfigError, match=r"no records to preview\n.*--input"):
            preview_config(None, None, [])
        with pytest.raises(DataError, match="needs the track 'weight'"):
            preview(corpus, "masking.kind=weighted", "masking.track=weight")


def test_a_file_is_read_as_training_reads_it(tmp_path):
    """Prepared whole, with the same records, tracks and refusals, and a fair sample of it."""
    path = tmp_path / "pairs.tsv"
    repertoire_frame(simulate_repertoire(12, seed=3, mutation_rate=0.1)).write_csv(path, separator="\t")
    made = prepare(path, tmp_path / "made").corpus
    settings = {"num_records": 4, "sample": 4, "num_epochs": 3}
    of_file, of_corpus = (
        preview(str(each), "masking.kind=uniform", **settings) for each in (path, made.path)
    )
    assert [record.id for record in of_file.records] == [record.id for record in of_corpus.records]
    assert [record.id for record in of_file.records] != list(made.column("id"))[:4]
    assert of_file.rates.equals(of_corpus.rates)
    assert set(of_file.rates["group"]) >= {"region", "segment", "mutated"}
    broken = tmp_path / "broken.fasta"
    broken.write_text(">a\nACDEFGHIKL\n>b\nMNPQ-STVWY\n")
    with pytest.raises(DataError, match="gap '-' at position 5"):
        preview(str(broken), "masking.kind=uniform")


@pytest.mark.parametrize(("share_of", "expected"), [("records", {2: 6, 4: 2}), ("tokens", {2: 6, 4: 1})])
def test_several_corpora_count_by_their_shares(tmp_path, share_of, expected):
    """Shares 3/4 and 1/4. Records of 2 and 4 residues have 4 and 6 tokens: 9/11 and 2/11 of the records."""
    letters = "ACDEFGHIKL"
    for length in (2, 4):
        own = [Record(a + b, (Chain((a + b) * (length // 2)),)) for a in letters for b in letters]
        write_corpus(tmp_path / f"c{length}", own)
    sources = [{"source": str(tmp_path / "c2"), "share": 0.75}, {"source": str(tmp_path / "c4")}]
    values = {"data": {"train": sources, "share_of": share_of}, "masking": {"kind": "uniform"}}
    said: list[str] = []
    config = PretrainConfig.from_dict(values)
    shown = preview_masking(config, num_records=99, sample=8 if share_of == "records" else 7, say=said.append)
    lengths = Counter(len(record.chains[0].residues) for record in shown.records)
    assert lengths == expected
    assert said == [f"records by the shares at training progress 0: c2 {expected[2]}, c4 {expected[4]}"]


def test_a_small_corpus_makes_the_sample_smaller_and_not_its_share():
    assert _counts([100, 3], np.array([0.75, 0.25]), 500) == [9, 3]
    assert _counts([100, 100], np.array([1.0, 0.0]), 50) == [50, 0]
    assert _counts([7], np.ones(1), 500) == [7]


def test_roles_come_from_the_records():
    heavy, light = Chain("ACDEF", role=Role.HEAVY), Chain("GHIKL", role=Role.LIGHT)
    batch = collate(flatten_records([Record("turned", (light, heavy))]), esm_layout())
    assert batch.roles is not None
    assert batch.roles[batch.is_residue].tolist() == [Role.LIGHT] * 5 + [Role.HEAVY] * 5
