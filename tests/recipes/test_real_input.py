"""The recipes on the developers' real files; skipped, saying so, where those are absent."""

import re

import numpy as np
import polars as pl
import pytest

from protlm.evaluation.frequencies import FrequencyBaseline, count_residues
from protlm.evaluation.regions import region_cells, summarise
from protlm.evaluation.residues import predict_baseline
from protlm.models.architectures import EsmArchitecture
from protlm.recipes.prepare import prepare
from protlm.recipes.score import score_file
from protlm.types.regions import Region

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def oas(shared_data, tmp_path_factory):
    source = shared_data / "antibody_pretrain" / "oas_heavy_regions.tsv.gz"
    return source, prepare(source, tmp_path_factory.mktemp("oas") / "corpus", holdout=0.1)


def test_every_heavy_chain_of_the_oas_file_is_kept_and_numbered(oas):
    _, prepared = oas
    assert len(prepared.corpus) == 10_122
    assert not prepared.reading.dropped
    assert dict(prepared.numbering.numbered) == {"H": 10_122}


def test_at_least_999_of_1000_cdrs_equal_the_files_own(oas):
    source, prepared = oas
    table = pl.read_csv(source, separator="\t")
    equal = total = 0
    for row, expected in enumerate(table.iter_rows(named=True)):
        chain = prepared.corpus.record(row).chains[0]
        for region in (Region.CDR1, Region.CDR2, Region.CDR3):
            inside = np.flatnonzero(chain.tracks["region"] == region)
            found = "".join(chain.residues[index] for index in inside)
            equal += found == expected[region.name.lower()]
            total += 1
    assert total == 30_366
    assert equal / total >= 0.999


def test_no_group_is_on_both_sides_of_the_split(oas):
    _, prepared = oas
    sides = [
        set(type(prepared.corpus)(f"{prepared.corpus.path}:{name}").column("group"))
        for name in ("train", "holdout")
    ]
    assert all(re.match(r"IGHV\S+\|[A-Z]+$", group) for group in sides[1])
    assert not sides[0] & sides[1]


def test_the_trivial_baselines_are_where_they_are_known_to_be(oas):
    """Framework accuracy: position mode about 0.75, V-gene majority about 0.94 (issue 2)."""
    _, prepared = oas
    corpus = type(prepared.corpus)
    train = corpus(f"{prepared.corpus.path}:train")
    held_out = corpus(f"{prepared.corpus.path}:holdout")
    counts = count_residues(train)
    records = [held_out.record(row) for row in range(0, len(held_out), 3)]
    accuracy = {}
    for use_v_gene in (False, True):
        baseline = FrequencyBaseline(counts, use_v_gene=use_v_gene)
        summary = summarise(region_cells(predict_baseline(baseline, records)))
        accuracy[baseline.name] = summary.filter(region="framework", residues="all")["accuracy"].item()
    assert accuracy["position_mode"] == pytest.approx(0.75, abs=0.03)
    assert accuracy["v_gene_majority"] == pytest.approx(0.94, abs=0.015)


def test_all_4996_blat_variants_are_scored_from_end_to_end(shared_data, tmp_path):
    model = tmp_path / "model"
    EsmArchitecture.Config(num_layers=1, hidden_size=16, num_heads=2).build(seed=0).save(model)
    reference = pl.read_csv(shared_data / "dms" / "dms_reference.tsv", separator="\t")
    wild_type = reference.filter(pl.col("file").str.contains("BLAT_ECOLX_Ranganathan2015"))["wt_sequence"][0]
    variants = shared_data / "dms" / "BLAT_ECOLX_Ranganathan2015.tsv.gz"
    said: list[str] = []
    frame = score_file(
        [str(model)], wild_type, tmp_path / "scores.tsv", variants=variants, device="cpu", say=said.append
    )
    assert len(frame) == 4996
    assert frame["score"].null_count() == 0
    assert any("263 masked contexts" in line for line in said)
    written = pl.read_csv(tmp_path / "scores.tsv", separator="\t", infer_schema=False)
    given = pl.read_csv(variants, separator="\t", infer_schema=False)
    assert written["esm1v_t33_650M_UR90_1"].equals(given["esm1v_t33_650M_UR90_1"])  # to the letter
    assert written["mutant"].equals(given["mutant"])
