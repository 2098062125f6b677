"""Score tables on structures: which chain, which residue, what is grey, and wrong input."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from handmade import AMINO_ACIDS, provenance, write_pdb, write_scan
from typer.testing import CliRunner

from protlm.cli.main import app
from protlm.data.readers.structure import read_structure
from protlm.errors import ConfigError, DataError
from protlm.report.figures.sensitivity import sensitivity
from protlm.report.figures.structure import sensitivity_trace
from protlm.report.figures.substitutions import substitution_scan
from protlm.report.page import write_report
from protlm.report.sources import read_sources
from protlm.report.structures import StructureRequest, chain_trace, parse_request, place_structures

WILD_TYPE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"
OTHER = "GSWHPCDNNGWPPCDDHWGGCNPWDHCPGWWND"


def scan_file(path: Path, wild_type: str = WILD_TYPE, offset: int = 0) -> Path:
    """Score every substitution at the 0-based index i with -i."""
    rows = [
        (f"{wild}{index + 1 + offset}{mutant}", -float(index))
        for index, wild in enumerate(wild_type)
        for mutant in AMINO_ACIDS
        if mutant != wild
    ]
    pl.DataFrame(rows, schema=["mutant", "score"], orient="row").write_csv(path)
    facts = {**provenance(), "offset": offset, "wild_type": {"id": "wt", "residues": wild_type}}
    Path(f"{path}.meta.json").write_text(json.dumps(facts))
    return path


@pytest.fixture
def scan(tmp_path):
    return scan_file(tmp_path / "scan.csv", offset=20)


def placed_on(scan, path, request=""):
    (table,) = read_sources([scan]).scores
    return place_structures([f"{path}{request}"], [table])[table.label].chains


def test_each_residue_has_the_colour_of_its_own_position(scan, tmp_path):
    path = write_pdb(tmp_path / "tagged.pdb", {"A": OTHER, "B": f"GSG{WILD_TYPE[2:]}"}, missing=(10, 11))
    (placed,) = placed_on(scan, path)
    assert placed.chain.chain_id == "B", "the chain that fits is found"
    assert (placed.fit.num_equal, placed.fit.num_aligned) == (31, 31)
    found = sensitivity(substitution_scan(read_sources([scan]).scores[0].frame, WILD_TYPE, 20))
    trace = sensitivity_trace(found, chain_trace(placed.chain), placed.fit.places)
    resolved = [index for index in range(34) if index not in (10, 11)]
    expected = [-(index - 1.0) if index >= 3 else np.nan for index in resolved]
    np.testing.assert_allclose(trace.values, expected)
    assert trace.chain.residue_ids[3] == "104"
    points = next(
        each for each in trace.figure().data if each.mode == "markers" and each.marker.cmin is not None
    )
    assert points.text[0] == "T23<br>mean score -2.000 of 19<br>chain B, T 104 in the file"
    assert (points.x[0], points.marker.color[0]) == (pytest.approx(3 * 3.8), -2)
    assert (points.marker.cmin, points.marker.cmax) == (-32, 0)


def test_the_trace_breaks_where_residues_are_missing(scan, tmp_path):
    (placed,) = placed_on(scan, write_pdb(tmp_path / "gap.pdb", {"A": WILD_TYPE}, missing=(10, 11)))
    trace = chain_trace(placed.chain)
    assert np.flatnonzero(trace.breaks).tolist() == [9]
    found = sensitivity(substitution_scan(read_sources([scan]).scores[0].frame, WILD_TYPE, 20))
    lines = [
        each
        for each in sensitivity_trace(found, trace, placed.fit.places).figure().data
        if each.mode == "lines"
    ]
    coloured = lines[-1]
    assert list(coloured.x).index(None) == 10
    assert [value for value in coloured.x if value is not None] == pytest.approx(trace.atoms[:, 0].tolist())


def test_a_gap_that_the_file_does_not_state_is_seen_by_its_length(tmp_path):
    path = write_pdb(tmp_path / "gap.pdb", {"A": WILD_TYPE}, missing=(10, 11))
    path.write_text("".join(line for line in path.open() if not line.startswith("SEQRES")))
    trace = chain_trace(read_structure(path).chains[0])
    assert np.diff(trace.places).tolist() == [1] * 30
    assert np.flatnonzero(trace.breaks).tolist() == [9]


def test_unscored_residues_are_grey(tmp_path):
    table = scan_file(tmp_path / "part.csv")
    pl.read_csv(table).filter(pl.col("mutant").str.contains(r"^(M1|K2|A4)\D")).write_csv(table)
    (placed,) = placed_on(table, write_pdb(tmp_path / "one.pdb", {"A": WILD_TYPE}))
    found = sensitivity(substitution_scan(read_sources([table]).scores[0].frame, WILD_TYPE))
    trace = sensitivity_trace(found, chain_trace(placed.chain), placed.fit.places)
    grey, coloured = (each for each in trace.figure().data if each.mode == "markers")
    assert (len(grey.x), len(coloured.x)) == (30, 3)
    assert "no scored substitution" in grey.text[0]
    line = [each for each in trace.figure().data if each.mode == "lines"][-1]
    assert line.x[:3] == (pytest.approx(0), pytest.approx(3.8), None), (
        "no colour runs over an unscored residue"
    )


def test_twins_and_other_chains_are_told(scan, tmp_path):
    path = write_pdb(tmp_path / "dimer.pdb", {"A": WILD_TYPE, "B": WILD_TYPE, "C": OTHER})
    text = write_report([scan], tmp_path / "r.html", structures=[str(path)]).read_text()
    assert "The same on dimer, chain A" in text
    assert "33 of 33 aligned residues equal the wild type" in text
    assert "Thin and grey: chains B, C." in text
    assert "The wild type fits as well on chain B." in text
    assert text.count('"type":"scatter3d"') == 4, "two chains thin and grey, a line and its points"
    assert "<td>153</td>" not in text
    assert "<td>133</td>" in text, "the residue number of the file, for the most sensitive position"


def test_a_structure_without_a_name_goes_to_the_tables_that_it_fits(scan, tmp_path):
    other = scan_file(tmp_path / "other.csv", OTHER)
    path = write_pdb(tmp_path / "complex.pdb", {"A": WILD_TYPE})
    text = write_report([scan, other], tmp_path / "r.html", structures=[str(path)]).read_text()
    assert text.count("The same on complex") == 1
    assert "complex has no chain with this wild type." in text
    with pytest.raises(DataError, match=r"complex\.pdb: no chain fits the wild type of other"):
        write_report([scan, other], tmp_path / "r2.html", structures=[f"other={path}"])


def test_a_misfit_names_the_chains_and_how_equal_they_are(scan, tmp_path):
    path = write_pdb(tmp_path / "wrong.pdb", {"A": "GGGGG", "X": OTHER})
    with pytest.raises(DataError, match=r"wild type of scan \(33 residues\)") as caught:
        placed_on(scan, path)
    assert "A of 5 residues" in caught.value.message
    assert "X of 33 residues (" in caught.value.message
    assert "aligned ones equal" in caught.value.message
    assert "50%" in caught.value.hint


def test_what_is_not_there_is_said(scan, tmp_path):
    path = write_pdb(tmp_path / "one.pdb", {"A": WILD_TYPE})
    with pytest.raises(DataError, match="no such file"):
        placed_on(scan, tmp_path / "nowhere.pdb")
    with pytest.raises(DataError, match="no protein chain 'Q'") as caught:
        placed_on(scan, path, ":Q")
    assert "A" in caught.value.hint
    with pytest.raises(ConfigError, match="no score table here is called 'scam'") as caught:
        placed_on(scan, f"scam={path}")
    assert "scan" in caught.value.hint
    with pytest.raises(ConfigError, match="no score table to show"):
        place_structures([str(path)], [])
    lines = [line for line in path.read_text().splitlines() if line[13:15] != "CA"]
    (tmp_path / "no_ca.pdb").write_text("\n".join(lines))
    with pytest.raises(DataError, match="has a Cα atom"):
        placed_on(scan, tmp_path / "no_ca.pdb")


def test_requests_are_taken_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a=b:c.pdb").write_text("x")
    Path("d:e.cif").write_text("x")
    labels = ["vh", "vl"]
    assert parse_request("a=b:c.pdb", labels) == StructureRequest(Path("a=b:c.pdb"))
    assert parse_request("x.pdb:H", labels) == StructureRequest(Path("x.pdb"), "H")
    assert parse_request("vl=x.pdb", labels) == StructureRequest(Path("x.pdb"), None, "vl")
    assert parse_request("vl=d:e.cif", labels) == StructureRequest(Path("d:e.cif"), None, "vl")
    Path("dir=1").mkdir()
    Path("dir=1/x.pdb").write_text("x")
    assert parse_request("dir=1/x.pdb:B", labels) == StructureRequest(Path("dir=1/x.pdb"), "B")


def test_the_command_and_what_it_imports(scan, tmp_path):
    path, out = write_pdb(tmp_path / "one.pdb", {"A": WILD_TYPE}), tmp_path / "r.html"
    arguments = ["report", str(scan), "--out", str(out)]
    code = (
        "import sys\nfrom protlm.cli.main import app\n"
        f"app({arguments!r}, standalone_mode=False)\n"
        "print(sorted({'torch', 'transformers', 'biotite'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"
    answer = CliRunner().invoke(app, [*arguments, "--force", "--structure", f"scan={path}:A"])
    assert answer.exit_code == 0
    assert "The same on one, chain A" in out.read_text()


def test_an_antibody_without_columns_of_regions_is_numbered(tmp_path):
    heavy = (
        "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
        "SRWGGDGFYAMDYWGQGTLVTVSS"
    )
    text = write_report([scan_file(tmp_path / "vh.csv", heavy)], tmp_path / "r.html").read_text()
    assert r"D31A\u003cbr\u003eIMGT 36, CDR1\u003cbr\u003escore" in text
    assert "<td>FR4</td>" in text
    plain = write_report([write_scan(tmp_path / "scan.csv")], tmp_path / "p.html").read_text()
    assert "IMGT 1, FR1" in plain, "what the table says stays"
