"""Contacts, copies, windows and shuffles of complexes written by hand."""

import numpy as np
import pytest

from fixtures.complexes import line_of, read_chain, write_pdb
from protlm.data.readers.structure import read_structure
from protlm.errors import DataError
from protlm.explain.case_files import find_cases
from protlm.explain.complexes import (
    antigen_groups,
    beta_atoms,
    build_complex,
    crop_antigen,
    with_antigen_of,
    with_shuffled_antigen,
)

VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTI"
    "SADTSKNTAYLQMNSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS"
)
CONSTANT = "ASTKGPSVFPLAPSSKSTSGGTAALGCLVKDYFPEPVTVSW"


def small(tmp_path, *, antigen: str = "GGGGG", y: float = 6.0, name: str = "toy"):
    """An antibody GGG at x 0, 3.8, 7.6 and an antigen facing it; glycines, so that Cα counts."""
    ours = read_chain(tmp_path / "r.pdb", "GGG", line_of(3))
    theirs = read_chain(tmp_path / "l.pdb", antigen, line_of(len(antigen), y=y))
    return build_complex(name, [ours], [theirs])


def test_contacts_by_hand(tmp_path):
    # the distance is sqrt(36 + (3.8 d)²): 6.0, 7.1, 9.7 for d = 0, 1, 2
    one = small(tmp_path)
    expected = np.abs(np.arange(3)[:, None] - np.arange(5)) <= 1
    assert np.array_equal(one.contacts, expected)
    assert one.shorter == 3
    assert [chain.residues for chain in one.antibody] == ["GGG"]
    assert not one.is_cdr.any()
    assert "could not be numbered" in one.notes[0]


def test_distances_are_between_beta_atoms(tmp_path):
    # an ideal alanine: bond lengths 1.46, 1.52 and 1.53 Å, angle 111°; its Cβ by the tetrahedron
    lines = (
        "ATOM      1  N   ALA A   1      -0.525   1.362   0.000  1.00 10.00           N\n"
        "ATOM      2  CA  ALA A   1       0.000   0.000   0.000  1.00 10.00           C\n"
        "ATOM      3  C   ALA A   1       1.526   0.000   0.000  1.00 10.00           C\n"
        "ATOM      4  O   ALA A   1       2.153   1.062   0.000  1.00 10.00           O\n"
    )
    path = tmp_path / "a.pdb"
    path.write_text(lines)
    beta = beta_atoms(read_structure(path).chains[0])[0]
    np.testing.assert_allclose(beta, [-0.529, -0.774, -1.205], atol=0.05)  # AlphaFold's literature positions
    path.write_text(lines.replace("ALA", "GLY"))
    np.testing.assert_allclose(beta_atoms(read_structure(path).chains[0])[0], [0, 0, 0], atol=1e-6)


def test_residues_without_backbone_are_shown_but_not_judged(tmp_path):
    ours = read_chain(tmp_path / "r.pdb", "GGG", line_of(3))
    path = write_pdb(tmp_path / "l.pdb", {"A": ("GAG", line_of(3, y=6.0))})
    kept = [line for line in path.read_text().splitlines(keepends=True) if "ALA" not in line or " O " in line]
    path.write_text("".join(kept))
    one = build_complex("toy", [ours], list(read_structure(path).chains))
    assert len(one.antigen[0]) == 3
    assert not one.is_known[:, 1].any()
    assert not one.contacts[:, 1].any()
    assert one.is_known[:, [0, 2]].all()
    assert "1 residues without coordinates" in one.notes[-1]


def test_copies_of_a_chain_are_shown_once_and_touch_where_any_does(tmp_path):
    ours = read_chain(tmp_path / "r.pdb", "GGG", line_of(3))
    far = read_chain(tmp_path / "far.pdb", "GGGAG", line_of(5, y=60.0))
    near = read_chain(tmp_path / "near.pdb", "GGGA", line_of(4, y=6.0))
    other = read_chain(tmp_path / "other.pdb", "GGGVG", line_of(5, y=50.0))
    one = build_complex("toy", [ours], [far, near, other])
    assert [chain.residues for chain in one.antigen] == ["GGGAG", "GGGVG"]
    assert one.contacts[:, :3].tolist() == (np.abs(np.arange(3)[:, None] - np.arange(3)) <= 1).tolist()
    assert not one.contacts[:, 4:].any()
    assert "1 copy of antigen chains shown once" in one.notes


def test_constant_domains_are_cut_unless_wanted(tmp_path):
    heavy = read_chain(tmp_path / "r.pdb", VH + CONSTANT, line_of(len(VH + CONSTANT)))
    antigen = read_chain(tmp_path / "l.pdb", "GGGG", line_of(4, y=6.0))
    one = build_complex("toy", [heavy], [antigen])
    assert one.antibody[0].residues == VH
    whole = build_complex("toy", [heavy], [antigen], whole_antibody=True)
    assert whole.antibody[0].residues == VH + CONSTANT
    assert np.array_equal(whole.is_cdr[: len(VH)], one.is_cdr)
    assert not whole.is_cdr[len(VH) :].any()
    assert "".join(np.array(list(VH))[one.is_cdr]) == "GFNIKDTY" + "IYPTNGYT" + "SRWGGDGFYAMDY"


def test_what_does_not_touch_or_has_no_partner_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"'toy': no residue of the antibody is within 8 Å .*nearest: 20.0"):
        small(tmp_path, y=20.0)
    ours = read_chain(tmp_path / "r.pdb", "GGG", line_of(3))
    with pytest.raises(DataError, match="'toy' has no antigen chain"):
        build_complex("toy", [ours], [])


def test_a_shuffle_goes_and_comes_back(tmp_path):
    one = small(tmp_path, antigen="ACDEFHIKLMN")
    record, places = with_shuffled_antigen(one, seed=0)
    shuffled = record.chains[-1].residues
    assert record.chains[0] == one.antibody[0]
    assert shuffled != one.antigen[0].residues
    assert "".join(shuffled[place] for place in places) == one.antigen[0].residues
    again, _ = with_shuffled_antigen(one, seed=0)
    assert again == record
    assert with_shuffled_antigen(one, seed=1)[0] != record


def test_a_window_holds_the_interface_where_it_fits(tmp_path):
    ours = read_chain(tmp_path / "r.pdb", "GGG", line_of(3))
    theirs = read_chain(tmp_path / "l.pdb", "GGGGGGGGGGGG", line_of(12, y=6.0, x=-3.8 * 4))
    one = build_complex("toy", [ours], [theirs])
    touching = np.flatnonzero(one.contacts.any(axis=0))
    assert touching.tolist() == [3, 4, 5, 6, 7]
    starts = set()
    for seed in range(20):
        cut = crop_antigen(one, 7, seed=seed)
        assert cut.contacts.shape == (3, 7)
        assert len(cut.antigen[0]) == 7
        assert cut.contacts.sum() == one.contacts.sum()
        starts.add(cut.notes[-1])
    assert len(starts) == 3  # 1, 2 or 3 residues before the interface
    narrow = crop_antigen(one, 4, seed=0)
    assert narrow.contacts.shape == (3, 4)
    assert narrow.contacts.any(axis=0).all()
    assert crop_antigen(one, 12, seed=0) is one
    with pytest.raises(DataError, match=r"antibody alone .3 residues. is over the limit"):
        crop_antigen(one, 0, seed=0)


def test_a_window_over_two_chains_keeps_their_parts(tmp_path):
    ours = read_chain(tmp_path / "r.pdb", "GGG", line_of(3))
    first = read_chain(tmp_path / "a.pdb", "GGGG", line_of(4, y=50.0))
    second = read_chain(tmp_path / "b.pdb", "AGGG", line_of(4, y=6.0))
    one = build_complex("toy", [ours], [first, second])
    cut = crop_antigen(one, 5, seed=0)
    assert "".join(chain.residues for chain in cut.antigen) in ("GAGGG", "AGGG")
    assert sum(len(chain) for chain in cut.antigen) == cut.contacts.shape[1] == 5


def test_alike_antigens_are_one_group(tmp_path):
    texts = ["ACDEFGHIKLMNPQRST", "ACDEFGHIKLWWWWYYYY", "VVVVTTTTSSSSRRRR", "YYVVVVTTTTSSSSKKYY"]
    complexes = [small(tmp_path, antigen=text, name=str(number)) for number, text in enumerate(texts)]
    assert antigen_groups(complexes).tolist() == [0, 0, 1, 1]
    joined = with_antigen_of(complexes[0], complexes[2])
    assert [chain.residues for chain in joined.chains] == ["GGG", texts[2]]


def test_cases_are_found_by_name_or_listed(tmp_path):
    for name in ("1ABC_r_b", "1ABC_l_b", "2DEF"):
        chains = {"H": ("GGG", line_of(3)), "A": ("GGG", line_of(3, y=6.0))}
        write_pdb(tmp_path / f"{name}.pdb", chains)
    cases, missing = find_cases(tmp_path)
    assert [case.name for case in cases] == ["1ABC"]
    assert not missing
    table = tmp_path / "cases.tsv"
    table.write_text("Complex PDB\tAntigen\n1ABC_H:A\tx\n2DEF_H:A \ty\n3GHI_HL:A\tz\n\n")
    cases, missing = find_cases(tmp_path, table)
    assert [case.name for case in cases] == ["1ABC", "2DEF"]
    assert missing == ["3GHI_HL:A"]
    assert cases[1].antibody_file == cases[1].antigen_file
    assert cases[1].read().contacts.sum() == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PDB\n1ABC_H:A\n", "has no column of complexes; it has PDB"),
        ("case\n1ABC\n", "line 2: '1ABC' names no complex"),
        ("case\n1ABC_H:A\n1ABC_H:A\n", "line 3: complex '1ABC_H:A' comes twice"),
        ("case\n9XYZ_H:A\n", "has no complex of the 1 in"),
        ("case\n1ABC_H:Z\n", "has no protein chain 'Z'"),
    ],
)
def test_bad_lists(tmp_path, text, message):
    for side, letter, y in (("r", "H", 0.0), ("l", "A", 6.0)):
        write_pdb(tmp_path / f"1ABC_{side}_b.pdb", {letter: ("GGG", line_of(3, y=y))})
    table = tmp_path / "cases.tsv"
    table.write_text(text)
    with pytest.raises(DataError, match=message):
        _ = [case.read() for case in find_cases(tmp_path, table)[0]]


def test_bad_folders(tmp_path):
    with pytest.raises(DataError, match="has no structure file"):
        find_cases(tmp_path)
    write_pdb(tmp_path / "1ABC.pdb", {"H": ("GGG", line_of(3))})
    with pytest.raises(DataError, match="has no complex: no pair of files"):
        find_cases(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_cases(tmp_path / "nowhere")
    write_pdb(tmp_path / "1ABC_r_b.pdb", {"H": ("GGG", line_of(3))})
    with pytest.raises(DataError, match=r"1ABC_r_b.pdb has no antigen: no file 1ABC_l_b.pdb"):
        find_cases(tmp_path)
    (tmp_path / "more").mkdir()
    write_pdb(tmp_path / "more" / "1ABC_r_b.pdb", {"H": ("GGG", line_of(3))})
    with pytest.raises(DataError, match="has structure '1ABC_r_b' twice"):
        find_cases(tmp_path)
