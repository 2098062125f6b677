"""The model in the package: it loads offline, is small, and is taken where the input is antibodies."""

import polars as pl
import pytest

import protlm
from protlm.errors import ConfigError
from protlm.models.catalog import catalog
from protlm.models.default import DEFAULT_MODEL, packaged_model
from protlm.recipes.embed import embed
from protlm.recipes.score import score_file
from protlm.types.regions import REGIONS

VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS"
)


def test_it_is_small_and_says_what_it_is_made_of():
    folder = packaged_model(DEFAULT_MODEL)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"| {region.name} |" in card for region in REGIONS)
    assert card.index("## Where it falls short") < card.index("## Data")
    assert "CC BY 4.0" in card
    entry = catalog()[DEFAULT_MODEL]
    assert entry.is_packaged
    assert entry.convert_command is None
    assert f"{protlm.load_model(DEFAULT_MODEL).num_parameters / 1e6:.1f}M" == entry.parameters


def test_score_takes_it_for_an_antibody_and_says_so(tmp_path):
    said = []
    frame = score_file([], VH, tmp_path / "vh.csv", say=said.append)
    assert any(line.startswith(f"model: {DEFAULT_MODEL}") for line in said)
    assert frame[f"score_{DEFAULT_MODEL}"].is_not_null().all()
    conserved = frame.filter(pl.col("mutant").str.starts_with("C22"))["score"].mean()
    varied = frame.filter(pl.col("mutant").str.contains(r"^[A-Z](99|100|101|102)[A-Z]$"))["score"].mean()
    assert conserved < varied  # the cysteine of the fold, against the middle of CDR3


def test_score_wants_a_name_for_anything_else(tmp_path):
    with pytest.raises(ConfigError, match="no antibody variable domain"):
        score_file(
            [], "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVK", tmp_path / "a.csv", say=print
        )
    assert not (tmp_path / "a.csv").exists()


def test_embed_takes_it_too(tmp_path):
    path = tmp_path / "vh.fasta"
    path.write_text(f">a\n{VH}\n>b\n{VH[3:]}\n")
    frame = embed(None, path)
    assert frame["id"].to_list() == ["a", "b"]
    assert len(frame["embedding"][0]) == protlm.load_model(DEFAULT_MODEL).module.config.hidden_size
