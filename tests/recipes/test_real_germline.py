"""Germline genes and baselines on the developers' real files; skipped, saying so, where those are absent."""

from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest

from protlm.data.corpus import Corpus
from protlm.data.gene_names import gene_of
from protlm.data.germline_assignment import assign_germline
from protlm.data.germline_report import GermlineReport
from protlm.data.germline_set import open_germline
from protlm.data.numbering import number_records
from protlm.data.readers import InputPolicy, read_records
from protlm.errors import DataError
from protlm.evaluation.baselines import fit_baselines, load_baselines
from protlm.evaluation.regions import region_cells, summarise
from protlm.evaluation.residues import predict_baseline
from protlm.recipes.prepare import prepare
from protlm.types.regions import Mutated

pytestmark = pytest.mark.real_data

SETS = ("full", "package")


@pytest.fixture(scope="module")
def sets(shared_data):
    files = [shared_data / "germline" / f"human_{kind}_imgt_gapped.fasta.gz" for kind in "vdj"]
    return {"full": open_germline(files), "package": open_germline()}


@cache
def numbered(path):
    return list(number_records(read_records(path, policy=InputPolicy(duplicate_ids="rename"))))


def without_calls(records):
    """Give records with positions alone."""
    bare = []
    for record in records:
        chains = tuple(
            replace(
                chain,
                v_call="",
                d_call="",
                j_call="",
                tracks={name: chain.tracks[name] for name in ("position", "region") if name in chain.tracks},
            )
            for chain in record.chains
        )
        bare.append(replace(record, chains=chains))
    return bare


def agreement(records, found, call):
    pairs = [
        (gene_of(getattr(a.chains[0], call)), gene_of(getattr(b.chains[0], call)))
        for a, b in zip(records, found, strict=True)
    ]
    known = [(given, ours) for given, ours in pairs if given]
    return sum(given == ours for given, ours in known) / len(known)


def test_the_full_set_reads_whole_and_gaps_agree_with_numbering(shared_data, sets):
    germline = sets["full"]
    assert dict(germline.left_out) == {"a stop before position 104": 10}
    assert len(germline.genes) == 396 - 10
    plain = open_germline([shared_data / "germline" / f"human_{kind}_ungapped.fasta.gz" for kind in "vdj"])
    own = {gene.name: gene for gene in germline.genes}
    assert len(plain.genes) >= len(own) - 1
    for gene in plain.genes:
        np.testing.assert_array_equal(gene.framework, own[gene.name].framework)
        assert (gene.cdr3, gene.readings) == (own[gene.name].cdr3, own[gene.name].readings)


@pytest.mark.parametrize(("name", "v", "j"), [("full", 0.95, 0.85), ("package", 0.89, 0.85)])
def test_genes_of_oas_heavy_chains_are_those_of_igblast(shared_data, sets, name, v, j):
    records = numbered(shared_data / "antibody_pretrain" / "oas_heavy_regions.tsv.gz")
    found = list(assign_germline(without_calls(records), sets[name]))
    assert agreement(records, found, "v_call") >= v
    assert agreement(records, found, "j_call") >= j


@pytest.mark.parametrize(("name", "v", "j"), [("full", 0.90, 0.87), ("package", 0.88, 0.87)])
def test_genes_of_srr_chains_are_those_of_the_file(shared_data, sets, name, v, j):
    records = numbered(shared_data / "antibody_pretrain" / "srr_hkl_10k.tsv.gz")
    found = list(assign_germline(without_calls(records), sets[name]))
    assert agreement(records, found, "v_call") >= v
    assert agreement(records, found, "j_call") >= j


@pytest.mark.parametrize(
    ("chain", "name", "v", "residues", "recall", "precision"),
    [
        ("heavy", "full", 0.75, 0.96, 0.90, 0.95),
        ("heavy", "package", 0.72, 0.95, 0.89, 0.92),
        ("light", "full", 0.84, 0.98, 0.88, 0.97),
        ("light", "package", 0.81, 0.975, 0.88, 0.94),
    ],
)
def test_germline_residues_of_hiv_antibodies_are_those_of_their_alignments(
    shared_data, sets, chain, name, v, residues, recall, precision
):
    """The most mutated antibodies there are; truth is `germline_alignment_aa` of SADIE."""
    records = numbered(shared_data / "antibody_specificity" / f"catnap_hiv_{chain}_airr.tsv.gz")
    found = list(assign_germline(without_calls(records), sets[name]))
    assert agreement(records, found, "v_call") >= v
    same = both = right = true = marked = 0
    for before, after in zip(records, found, strict=True):
        truth, ours = before.chains[0].tracks, after.chains[0].tracks
        if "germline" not in truth or "germline" not in ours:
            continue
        known = (truth["germline"] > 0) & (ours["germline"] > 0)
        both += known.sum()
        same += (truth["germline"] == ours["germline"])[known].sum()
        is_true = truth["mutated"] == Mutated.MUTATED
        is_marked = (ours["mutated"] == Mutated.MUTATED) & (truth["mutated"] != Mutated.NONE)
        right, true, marked = (
            right + (is_true & is_marked).sum(),
            true + is_true.sum(),
            marked + is_marked.sum(),
        )
    assert same / both >= residues
    assert right / true >= recall
    assert right / marked >= precision


def test_d_calls_of_hiv_antibodies_where_one_is_found(shared_data, sets):
    records = numbered(shared_data / "antibody_specificity" / "catnap_hiv_heavy_airr.tsv.gz")
    found = list(assign_germline(without_calls(records), sets["full"]))
    pairs = [
        (gene_of(a.chains[0].d_call), gene_of(b.chains[0].d_call))
        for a, b in zip(records, found, strict=True)
    ]
    both = [(given, ours) for given, ours in pairs if given and ours]
    assert len(both) >= 110
    assert sum(given == ours for given, ours in both) / len(both) >= 0.7


def test_mouse_chains_are_left_alone_by_auto_and_said_so(shared_data, tmp_path):
    table = pl.read_csv(
        shared_data / "antibody_pairs" / "sabdab_fv_pairs.tsv.gz", separator="\t", infer_schema=False
    )
    mice = tmp_path / "mice.tsv"
    table.filter(pl.col("organism") == "mouse_ig").select("heavy_seq", "light_seq").head(400).write_csv(
        mice, separator="\t"
    )
    auto = prepare(mice, tmp_path / "auto")
    assert "segment" not in auto.corpus.track_names
    assert any("another species" in line for line in auto.germline.lines())
    human = prepare(mice, tmp_path / "human", germline=["human"])
    assert "segment" in human.corpus.track_names
    none = prepare(mice, tmp_path / "none", germline=["none"])
    assert none.germline.lines() == []
    with pytest.raises(DataError, match="no such file"):
        prepare(mice, tmp_path / "wrong", germline=["mouse"])


@pytest.fixture(scope="module")
def oas(shared_data, tmp_path_factory):
    source = shared_data / "antibody_pretrain" / "oas_heavy_regions.tsv.gz"
    return prepare(source, tmp_path_factory.mktemp("oas") / "corpus", holdout=0.1)


def test_prepare_reports_and_keeps_what_it_assigned(oas):
    report = oas.germline
    assert isinstance(report, GermlineReport)
    assert report.num_compared == 10_122
    assert report.calls["V"].total() == 10_122
    assert {"segment", "germline", "mutated"} <= set(oas.corpus.track_names)
    assert oas.corpus.manifest["germline"]["residues"]["N"] > 60_000


def test_the_fitted_baselines_on_held_out_heavy_chains(oas):
    """Genes know most: cross-entropy falls from the position to the germline to the gene in every region."""
    train, held_out = (Corpus(f"{oas.corpus.path}:{name}") for name in ("train", "holdout"))
    baselines = load_baselines(fit_baselines(train))
    records = [held_out.record(row) for row in range(len(held_out))]
    table = pl.concat([predict_baseline(baseline, records) for baseline in baselines])
    lines = summarise(region_cells(table)).filter(pl.col("residues") == "all")
    loss = {
        (row["model"], row["region"]): row["cross_entropy"]
        for row in lines.select("model", "region", "cross_entropy").iter_rows(named=True)
    }
    for region in ("FR1", "CDR1", "FR2", "CDR2", "FR3", "CDR3", "FR4"):
        assert loss["germline", region] < loss["position_mode", region]
        assert loss["genes", region] < loss["germline", region]
    assert loss["germline", "CDR3"] == pytest.approx(2.12, abs=0.06)
    assert loss["genes", "CDR3"] == pytest.approx(2.00, abs=0.06)
