"""Structure files to chains: constructs, backbones, what is left out, and files that are broken."""

import gzip
import io
import itertools
import re
import subprocess
import sys
import tarfile
import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protlm.data.readers.structure import StructureChain, place_on_chain, read_structure
from protlm.data.readers.structure_files import Construct
from protlm.data.readers.structure_residues import Letters, Residue, place_by_walk
from protlm.errors import DataError

NAMES = dict(
    zip(
        "ACDEFGHIKLMNPQRSTVWY",
        (
            *("ALA", "CYS", "ASP", "GLU", "PHE", "GLY", "HIS", "ILE", "LYS", "LEU"),
            *("MET", "ASN", "PRO", "GLN", "ARG", "SER", "THR", "VAL", "TRP", "TYR"),
        ),
        strict=True,
    )
)
LETTERS = {name: letter for letter, name in NAMES.items()}
CONSTRUCT = "GSHMKTAYIAKQRQISFVKSHFSRQ"


def backbone_of(step, y=0.0):
    """N, CA, C and O of a straight chain whose residues are bonded where steps are neighbours."""
    x = 3.9 * step
    return np.array([[x, y, 0.5], [x + 1.3, y, 0.5], [x + 2.6, y, 0.5], [x + 2.6, y + 1.2, 0.5]], np.float32)


class PdbText:
    """Writes PDB records."""

    def __init__(self, *head):
        self.lines = list(head)

    def atom(self, name, component, number, xyz, **more):
        chain, insertion, altloc = more.get("chain", "A"), more.get("insertion", ""), more.get("altloc", "")
        record = "HETATM" if more.get("hetero") else "ATOM"
        occupancy, b = more.get("occupancy", 1.0), more.get("b", 20.0)
        self.lines.append(
            f"{record:<6}{len(self.lines):>5} {name if len(name) == 4 else ' ' + name:<4}{altloc:1}"
            f"{component:>3} {chain:1}{number:>4}{insertion:1}   {xyz[0]:8.3f}{xyz[1]:8.3f}{xyz[2]:8.3f}"
            f"{occupancy:6.2f}{b:6.2f}          {name[0]:>2}"
        )

    def residue(self, component, number, step=None, *, atoms=("N", "CA", "C", "O"), y=0.0, **more):
        places = dict(
            zip(("N", "CA", "C", "O"), backbone_of(number if step is None else step, y), strict=True)
        )
        for name in atoms:
            self.atom(name, component, number, places.get(name, (0.0, y + 5.0, 0.0)), **more)
        return self

    def chain(self, letters, start=1, **more):
        for number, letter in enumerate(letters, start):
            self.residue(NAMES[letter], number, **more)
        return self

    def add(self, *lines):
        self.lines += lines
        return self

    def text(self):
        return "\n".join(self.lines) + "\n"


def seqres(names, chain="A"):
    rows = [names[at : at + 13] for at in range(0, len(names), 13)]
    return [
        f"SEQRES {row:>3} {chain} {len(names):>4}  {' '.join(f'{name:>3}' for name in some)}"
        for row, some in enumerate(rows, 1)
    ]


def three(letters):
    return [NAMES[letter] for letter in letters]


COLUMNS = (
    *("group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id"),
    *("label_entity_id", "label_seq_id", "pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy"),
    *("B_iso_or_equiv", "auth_seq_id", "auth_asym_id", "pdbx_PDB_model_num"),
)


class CifText:
    """Writes mmCIF as the Protein Data Bank lays it out."""

    def __init__(self, entities, asyms, extra=""):
        """``entities``: id to (type, components by number); ``asyms``: id to entity."""
        self.head = "data_TEST\n#\n"
        self.head += table("entity_poly", ("entity_id", "type"), [(e, t) for e, (t, _) in entities.items()])
        rows = [(e, n, name) for e, (_, some) in entities.items() for n, name in some]
        self.head += table("entity_poly_seq", ("entity_id", "num", "mon_id"), rows)
        self.head += table("struct_asym", ("id", "entity_id"), list(asyms.items())) + extra
        self.asyms, self.rows = asyms, []

    def residue(self, component, label, seq, number, step=None, **more):
        auth, model = more.get("auth", label), more.get("model", 1)
        xyz = backbone_of(number if step is None else step, more.get("y", 0.0))
        for name, place in zip(("N", "CA", "C", "O"), xyz, strict=True):
            if name not in more.get("atoms", ("N", "CA", "C", "O")):
                continue
            self.rows.append(
                (
                    *("HETATM" if more.get("hetero") else "ATOM", len(self.rows) + 1, name[0], name),
                    *(more.get("altloc", "."), component, label, self.asyms.get(label, 9), seq),
                    *(more.get("insertion", "?"), *(f"{value:.3f}" for value in place)),
                    *(more.get("occupancy", "1.00"), more.get("b", "20.00"), number, auth, model),
                )
            )
        return self

    def text(self):
        return self.head + table("atom_site", COLUMNS, self.rows)


def table(name, columns, rows):
    lines = ["loop_", *(f"_{name}.{column}" for column in columns)]
    # a value with a space or a bracket in front is quoted, as in the archive
    cells = [" ".join(f"'{c}'" if re.search(r"[\s(]", str(c)) else str(c) for c in row) for row in rows]
    return "\n".join([*lines, *cells, "#"]) + "\n"


@pytest.fixture
def read(tmp_path):
    def read(text, name="x.pdb", **more):
        path = tmp_path / name
        path.write_text(text)
        return read_structure(path, **more)

    return read


def by_hand(lines):
    """Read ATOM records by their columns: residues, ids and backbones of each chain."""
    chains = {}
    for line in lines:
        if line[:6] != "ATOM  ":
            continue
        residues = chains.setdefault(line[21].strip(), {})
        atoms = residues.setdefault(line[22:27].strip(), (line[17:20].strip(), {}))[1]
        atoms.setdefault(line[12:16].strip(), [float(line[at : at + 8]) for at in (30, 38, 46)])
    return chains


# --- PDB


def test_a_chain_without_seqres_is_what_is_resolved(read):
    pdb = (
        PdbText()
        .residue("MET", -1, b=11.5)
        .residue("LYS", 0)
        .residue("THR", 5, insertion="A", atoms=("N", "CA", "C"))
    )
    structure = read(pdb.add("TER", "END").text(), "some.name.pdb")
    (chain,) = structure.chains
    assert (structure.name, structure.num_models) == ("some.name", 1)
    assert (chain.chain_id, chain.label_id, chain.residues, len(chain)) == ("A", "A", "MKT", 3)
    assert chain.residue_ids == ("-1", "0", "5A")
    assert chain.is_resolved.tolist() == [True] * 3
    assert chain.backbone.dtype == chain.b_factor.dtype == np.float32
    np.testing.assert_allclose(chain.backbone[:2], [backbone_of(-1), backbone_of(0)], atol=1e-3)
    assert np.isnan(chain.backbone[2, 3]).all()
    assert not np.isnan(chain.backbone[2, :3]).any()
    assert chain.b_factor.tolist() == [11.5, 20.0, 20.0]
    assert structure.notes == ("chain 'A': 1 residue without all of N, CA, C and O (first: THR 5A)",)


def test_seqres_gives_the_construct_and_its_unresolved_residues(read):
    pdb = PdbText("HEADER    TEST", *seqres(three(CONSTRUCT)))
    for index, letter in enumerate(CONSTRUCT):
        if index not in (0, 1, 8, 9, 10, 24):
            pdb.residue(NAMES[letter], index + 101, step=index)
    (chain,) = read(pdb.add("TER", "END").text()).chains
    assert chain.residues == CONSTRUCT
    gone = {0, 1, 8, 9, 10, 24}
    assert chain.is_resolved.tolist() == [index not in gone for index in range(25)]
    assert list(chain.residue_ids) == ["" if index in gone else str(index + 101) for index in range(25)]
    for index in range(25):
        if index in gone:
            assert np.isnan(chain.backbone[index]).all()
            assert np.isnan(chain.b_factor[index])
        else:
            np.testing.assert_allclose(chain.backbone[index], backbone_of(index), atol=1e-3)


def test_bonds_tell_a_jump_of_the_numbering_from_a_gap(read):
    """As in Chothia numbering: 9, 11 and 52, 52A, 53 are neighbours."""
    letters = "GGGGGGGG"
    ids = [(8, ""), (9, ""), (11, ""), (52, ""), (52, "A"), (53, "")]
    pdb = PdbText(*seqres(three(letters)))
    for step, (number, insertion) in enumerate(ids):
        pdb.residue("GLY", number, step=step, insertion=insertion)
    structure = read(pdb.add("TER").text())
    (chain,) = structure.chains
    assert chain.residue_ids == ("8", "9", "11", "52", "52A", "53", "", "")
    assert "1 break where the residues could stand at several places of SEQRES" in structure.notes[0]


def test_the_numbering_places_what_names_alone_leave_open(read):
    pdb = PdbText(*seqres(three("MAAAAAAAAK")))
    for number in (1, 2, 6, 7, 10):
        pdb.residue("MET" if number == 1 else "LYS" if number == 10 else "ALA", number)
    structure = read(pdb.add("TER").text())
    assert structure.chains[0].residue_ids == ("1", "2", "", "", "", "6", "7", "", "", "10")
    assert structure.notes == ()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_walk_finds_any_gaps_that_the_numbers_tell(data):
    letters = data.draw(st.text("AGS", min_size=2, max_size=40))
    kept = data.draw(st.lists(st.integers(0, len(letters) - 1), min_size=1, unique=True).map(sorted))
    first = data.draw(st.integers(-50, 50))
    construct = Construct("SEQRES", tuple((name,) for name in ["MET", *three(letters)]))
    residues = [residue("MET", first, 0), *(residue(NAMES[letters[k]], first + k + 1, k + 1) for k in kept)]
    places, num_ties = place_by_walk("x", residues, construct, Letters({}, frozenset()))
    assert places.tolist() == [0, *(k + 1 for k in kept)]
    assert num_ties == 0


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_walk_is_the_best_of_all_placements(data):
    """Against the enumeration of all placements, with numbers that may be wrong."""
    letters = data.draw(st.text("AG", min_size=1, max_size=8))
    num = data.draw(st.integers(1, len(letters)))
    residues = [
        residue(
            NAMES[data.draw(st.sampled_from("AG"))],
            data.draw(st.integers(-3, 9)),
            data.draw(st.integers(0, 9)),
        )
        for _ in range(num)
    ]

    def cost(places):
        if any(NAMES[letters[place]] != one.component for place, one in zip(places, residues, strict=True)):
            return np.inf
        total = 0
        for (here, one), (there, two) in itertools.pairwise(zip(places, residues, strict=True)):
            distance = np.linalg.norm(one.backbone[2] - two.backbone[0])
            difference = int(two.number) - int(one.number)
            if distance <= 2.0:
                total += np.inf if there - here != 1 else 0
            elif difference >= 1:
                total += there - here != difference
        return total

    costs = {places: cost(places) for places in itertools.combinations(range(len(letters)), num)}
    least = min(costs.values())
    construct = Construct("SEQRES", tuple((name,) for name in three(letters)))
    if least == np.inf:
        with pytest.raises(DataError, match="SEQRES"):
            place_by_walk("x", residues, construct, Letters({}, frozenset()))
        return
    best = sorted(places for places, value in costs.items() if value == least)
    places, num_ties = place_by_walk("x", residues, construct, Letters({}, frozenset()))
    assert tuple(places) == best[0]
    assert (num_ties > 0) == (len(best) > 1)


def residue(component, number, step):
    return Residue(
        *("A", "A", None, str(number), "", component, False, False, False),
        *(backbone_of(step), 0.0, 0, (component,)),
    )


def test_a_contradiction_of_seqres_is_no_silent_shift(read):
    names = three(CONSTRUCT)
    names[6] = "TRP"
    pdb = PdbText(*seqres(names)).chain(CONSTRUCT).add("TER")
    with pytest.raises(DataError, match=r"ALA 7 stands where SEQRES has TRP \(residue 7\); 1 of 25 residues"):
        read(pdb.text())
    pdb = PdbText(*seqres(three("GGGWWGGG"))).chain("GGGGGG").add("TER")
    with pytest.raises(DataError, match=r"GLY 3 and GLY 4 are bonded, but SEQRES has 2 between"):
        read(pdb.text())
    pdb = PdbText(*seqres(three("GG"))).chain("GGG").add("TER")
    with pytest.raises(DataError, match=r"3 residues have atoms, but SEQRES has 2"):
        read(pdb.text())
    other = PdbText(*seqres(three("GG")), *seqres(three("MK"), "B"))
    other.chain("GGG").add("TER").chain("MK", chain="B").add("TER")
    assert read(other.text(), chains=["B"]).chains[0].residues == "MK"


def modres(name, parent):
    return f"MODRES 1ABC {name:>3} A    1  {parent:>3}  SOME WORDS"


@pytest.mark.parametrize(
    ("component", "hetero", "head", "letter"),
    [
        ("MSE", True, [], "M"),
        ("SEP", True, [], "S"),
        ("TPO", True, [], "T"),
        ("MSE", True, [modres("MSE", "LEU")], "L"),  # what the file states comes first
        ("ZZ9", True, [modres("ZZ9", "TRP")], "W"),
        ("ASN", False, [modres("ASN", "ASN")], "N"),  # a glycosylation site
        ("UNK", False, [], "X"),
        ("ZZ9", False, [], "X"),
        ("SEC", True, [], "U"),
        ("HSE", True, [], "S"),  # homoserine
        ("HSE", False, [], "H"),  # a histidine of CHARMM
        ("GLH", False, [], "E"),  # a glutamic acid of Amber; as a component its parent is GLN
        ("CYX", False, [], "C"),
    ],
)
def test_letters_of_what_is_not_standard(read, component, hetero, head, letter):
    pdb = PdbText(*head).chain("MK").residue(component, 3, hetero=hetero).chain("TA", 4).add("TER", "END")
    structure = read(pdb.text())
    assert structure.chains[0].residues == f"MK{letter}TA"
    np.testing.assert_allclose(structure.chains[0].backbone[2], backbone_of(3), atol=1e-3)
    expected = () if component == "ASN" else (f"chain 'A': 1 × {component} read as {letter}",)
    assert structure.notes == expected


def test_unresolved_modified_residues_count_too(read):
    pdb = PdbText(*seqres(["MSE", "LYS", "MSE", "THR"])).residue("LYS", 2).residue("MSE", 3, hetero=True)
    structure = read(pdb.residue("THR", 4).add("TER").text())
    assert structure.chains[0].residues == "MKMT"
    assert structure.notes == ("chain 'A': 2 × MSE read as M",)


def test_waters_ligands_and_nucleic_acids_are_left_out_and_counted(read):
    pdb = PdbText().chain("MKT").add("TER")
    for number, name in enumerate(("DA", "DC", "DG"), 1):
        pdb.residue(name, number, chain="B", atoms=("P",), y=9.0)
    pdb.add("TER")
    for number in range(4):
        pdb.residue("HOH", 200 + number, hetero=True, atoms=("O",))
    pdb.residue("CA", 301, hetero=True, atoms=("CA",)).residue("NAG", 302, hetero=True, atoms=("C1", "O"))
    pdb.residue("NAG", 303, hetero=True, atoms=("C1", "O")).residue("GLU", 304, hetero=True, y=30.0)
    structure = read(pdb.add("END").text())
    assert [(chain.chain_id, chain.residues) for chain in structure.chains] == [("A", "MKT")]
    assert structure.notes == ("left out: 4 waters, 3 nucleotides, 2 × NAG, 1 × CA, 1 × GLU",)


def test_without_a_ter_a_bond_tells_a_residue_from_a_ligand(read):
    pdb = PdbText().residue("PCA", 1, hetero=True).chain("KT", 2).residue("MSE", 4, hetero=True)
    pdb.residue("GLU", 90, hetero=True, y=40.0)
    structure = read(pdb.text())
    assert structure.chains[0].residues == "QKTM"
    assert structure.notes[-1] == "left out: 1 × GLU"


def test_a_residue_of_other_atom_names_within_a_chain_stays(read):
    """A cyclised residue such as SNN has no atom called N; ATOM records of its chain follow."""
    pdb = PdbText().chain("MK").residue("SNN", 3, hetero=True, atoms=("N1", "C2")).chain("GA", 4)
    structure = read(pdb.text())
    assert structure.chains[0].residues == "MKNGA"
    assert np.isnan(structure.chains[0].backbone[2]).all()
    assert structure.chains[0].is_resolved.all()


def test_a_chain_that_goes_on_after_a_ter_is_said(read):
    text = PdbText().chain("MK").add("TER").chain("TA", 10).add("TER").text()
    structure = read(text)
    assert structure.chains[0].residues == "MKTA"
    assert structure.notes == ("chain 'A' goes on after a TER; its parts are read as one chain",)
    with pytest.raises(
        DataError, match=r"residue 1 comes twice, as MET 1 and THR 1.*\nhint: do two chains share"
    ):
        read(PdbText().chain("MK").add("TER").chain("TA").add("TER").text())


def test_of_alternate_locations_the_highest_occupancy_is_kept(read):
    pdb = PdbText()
    pdb.residue("SER", 1, altloc="A", occupancy=0.4).residue(
        "SER", 1, altloc="B", occupancy=0.6, y=1.0, b=44.0
    )
    pdb.residue("THR", 2, altloc="A", occupancy=0.5).residue("THR", 2, altloc="B", occupancy=0.5, y=1.0)
    # only CA twice: N, C and O have no letter
    pdb.residue("ALA", 3, atoms=("N", "C", "O"))
    pdb.residue("ALA", 3, atoms=("CA",), altloc="A", occupancy=0.3)
    pdb.residue("ALA", 3, atoms=("CA",), altloc="B", occupancy=0.7, y=1.0)
    # the letter of the highest occupancy has no backbone of its own
    pdb.residue("LYS", 4, altloc="A", occupancy=0.3).residue(
        "LYS", 4, altloc="C", occupancy=0.7, atoms=("NZ",)
    )
    structure = read(pdb.add("TER").text())
    (chain,) = structure.chains
    assert chain.residues == "STAK"
    np.testing.assert_allclose(chain.backbone[0], backbone_of(1, 1.0), atol=1e-3)
    np.testing.assert_allclose(chain.backbone[1], backbone_of(2, 0.0), atol=1e-3)
    np.testing.assert_allclose(chain.backbone[2, [0, 2, 3]], backbone_of(3)[[0, 2, 3]], atol=1e-3)
    np.testing.assert_allclose(chain.backbone[2, 1], backbone_of(3, 1.0)[1], atol=1e-3)
    np.testing.assert_allclose(chain.backbone[3], backbone_of(4), atol=1e-3)
    assert chain.b_factor[0] == 44.0
    assert "4 residues with alternate locations" in structure.notes[0]


@pytest.mark.parametrize("head", [[], seqres(["GLY", "PRO", "ALA"])])
def test_two_amino_acids_in_one_place(read, head):
    pdb = PdbText(*head).residue("GLY", 1)
    pdb.residue("PRO", 2, altloc="A", occupancy=0.4).residue("SER", 2, altloc="B", occupancy=0.6, y=1.0)
    structure = read(pdb.residue("ALA", 3).add("TER").text())
    assert structure.chains[0].residues == "GSA"
    np.testing.assert_allclose(structure.chains[0].backbone[1], backbone_of(2, 1.0), atol=1e-3)
    assert any("several amino acids in one place" in note and "SER 2" in note for note in structure.notes)


def test_two_residues_of_one_number_are_an_error(read):
    pdb = PdbText().residue("GLY", 1, step=1).residue("GLY", 1, step=2)
    with pytest.raises(DataError, match="GLY 1 has atom N more than once"):
        read(pdb.text())
    pdb = PdbText().residue("GLY", 1, step=1).residue("ALA", 1, step=2)
    with pytest.raises(DataError, match="residue 1 comes twice, as GLY 1 and ALA 1"):
        read(pdb.text())


def test_models(read):
    pdb = PdbText()
    for number in (1, 2, 3):
        pdb.add(f"MODEL     {number:>4}").chain("MKT", y=float(number)).add("TER", "ENDMDL")
    text = pdb.add("END").text()
    assert read(text).notes == ("model 1 of 3 is read",)
    second = read(text, model=2)
    assert (second.num_models, second.notes) == (3, ("model 2 of 3 is read",))
    np.testing.assert_allclose(second.chains[0].backbone[0], backbone_of(1, 2.0), atol=1e-3)
    for model in (0, 4, -1):
        with pytest.raises(DataError, match=rf"no model {model}: .* has 3 models"):
            read(text, model=model)


def test_hydrogens_change_nothing(read):
    plain = PdbText().chain("MKT").add("TER").text()
    atoms = ("N", "H", "CA", "HA", "C", "O", "HB1")
    chain, other = (
        read(text).chains[0] for text in (plain, PdbText().chain("MKT", atoms=atoms).add("TER").text())
    )
    assert chain == other
    assert np.array_equal(chain.backbone, other.backbone)


def test_columns_that_some_programs_leave_out(read):
    lines = [line[:54].rstrip() for line in PdbText().chain("MKT").lines]
    (chain,) = read("\n".join(lines)).chains
    assert chain.residues == "MKT"
    np.testing.assert_allclose(chain.backbone[1], backbone_of(2), atol=1e-3)
    assert np.isnan(chain.b_factor).all()


def test_chains_are_given_as_asked(read):
    pdb = PdbText()
    for at, chain in enumerate("LHA"):
        pdb.chain("MKT"[at:], chain=chain, y=20.0 * at).add("TER")
    text = pdb.add("END").text()
    assert [chain.chain_id for chain in read(text).chains] == ["L", "H", "A"]
    asked = read(text, chains=["H", "L", "H"]).chains
    assert [(chain.chain_id, chain.residues) for chain in asked] == [("H", "KT"), ("L", "MKT")]
    assert [chain.chain_id for chain in read(text, chains="H").chains] == ["H"]


# --- mmCIF

PROTEIN = "polypeptide(L)"


def monomers(letters):
    return list(enumerate(three(letters), 1))


def test_mmcif_is_placed_by_its_own_numbers(read):
    """Repeats, no numbers that help, and author ids unlike the file's own."""
    cif = CifText({1: (PROTEIN, monomers("GGGGGGMSG"))}, {"B": 1})
    for seq, number, insertion in ((3, 40, "?"), (4, 40, "A"), (6, 39, "?"), (7, 7, "?")):
        cif.residue(NAMES["GGGGGGMSG"[seq - 1]], "B", seq, number, step=seq, insertion=insertion, auth="H")
    cif.residue("HOH", "B", ".", 900, hetero=True, auth="H", atoms=("O",))
    structure = read(cif.text(), "x.cif")
    (chain,) = structure.chains
    assert (chain.chain_id, chain.label_id, chain.residues) == ("H", "B", "GGGGGGMSG")
    assert chain.residue_ids == ("", "", "40", "40A", "", "39", "7", "", "")
    assert chain.is_resolved.tolist() == [False, False, True, True, False, True, True, False, False]
    for seq in (3, 4, 6, 7):
        np.testing.assert_allclose(chain.backbone[seq - 1], backbone_of(seq), atol=1e-3)
    assert structure.notes == ("left out: 1 water",)


def test_pdb_and_mmcif_of_one_structure_agree(read):
    gone = {0, 1, 9, 10, 24}
    pdb, cif = PdbText(*seqres(three(CONSTRUCT))), CifText({1: (PROTEIN, monomers(CONSTRUCT))}, {"A": 1})
    for index, letter in enumerate(CONSTRUCT):
        if index not in gone:
            pdb.residue(NAMES[letter], index + 5)
            cif.residue(NAMES[letter], "A", index + 1, index + 5)
    one, other = (read(*each).chains[0] for each in ((pdb.add("TER").text(),), (cif.text(), "x.mmcif")))
    assert one == other
    np.testing.assert_array_equal(one.backbone, other.backbone)
    np.testing.assert_array_equal(one.b_factor, other.b_factor)
    np.testing.assert_array_equal(one.is_resolved, other.is_resolved)


def test_mmcif_leaves_out_what_is_no_protein(read):
    entities = {1: (PROTEIN, monomers("MKT")), 2: ("polydeoxyribonucleotide", [(1, "DA"), (2, "DC")])}
    cif = CifText(entities, {"A": 1, "B": 2, "C": 3, "D": 1})
    for seq in (1, 2, 3):
        cif.residue(NAMES["MKT"[seq - 1]], "A", seq, seq)
    cif.residue("DA", "B", 1, 1).residue("DC", "B", 2, 2)
    cif.residue("GLU", "C", ".", 301, hetero=True, auth="A")
    structure = read(cif.text(), "x.cif")
    assert [chain.residues for chain in structure.chains] == ["MKT"]
    assert structure.notes == (
        "chain 'D': left out, no atom of its 3 residues (entity_poly_seq)",
        "left out: 2 nucleotides, 1 × GLU",
    )


def test_caps_of_the_ends_are_no_residues(read):
    names = [(1, "ACE"), (2, "MET"), (3, "LYS"), (4, "NH2")]
    cif = CifText({1: (PROTEIN, names)}, {"A": 1})
    cif.residue("ACE", "A", 1, 0, hetero=True, atoms=("C", "O")).residue("LYS", "A", 3, 2)
    structure = read(cif.text(), "x.cif")
    (chain,) = structure.chains
    assert (chain.residues, chain.residue_ids) == ("MK", ("", "2"))
    np.testing.assert_allclose(chain.backbone[1], backbone_of(2), atol=1e-3)
    assert structure.notes == ("chain 'A': caps left out: 1 × ACE, 1 × NH2",)
    pdb = PdbText(*seqres([name for _, name in names])).residue("ACE", 0, hetero=True, atoms=("C", "O"))
    assert read(pdb.residue("LYS", 2).add("TER").text()).chains[0].residue_ids == ("", "2")


def test_mmcif_states_parents_and_alternatives(read):
    extra = table(
        "chem_comp", ("id", "type", "mon_nstd_parent_comp_id"), [("ZZ9", "L-peptide linking", "TRP")]
    )
    extra += table("pdbx_struct_mod_residue", ("label_comp_id", "parent_comp_id"), [("ZZ8", "PHE")])
    names = [(1, "ZZ9"), (2, "ZZ8"), (3, "PRO"), (3, "SER"), (4, "ALA")]
    cif = CifText({1: (PROTEIN, names)}, {"A": 1}, extra)
    cif.residue("ZZ9", "A", 1, 1, hetero=True)
    cif.residue("PRO", "A", 3, 3, altloc="A", occupancy="0.4").residue(
        "SER", "A", 3, 3, altloc="B", occupancy="0.6"
    )
    structure = read(cif.text(), "x.cif")
    assert structure.chains[0].residues == "WFSA"
    assert "chain 'A': 1 × ZZ8 read as F" in structure.notes
    assert "chain 'A': 1 × ZZ9 read as W" in structure.notes


@pytest.mark.parametrize(
    ("component", "seq", "message"),
    [
        ("TRP", 2, "label_seq_id 2 is TRP in the atoms, LYS in entity_poly_seq"),
        ("LYS", 9, r"LYS 5 has label_seq_id 9, which is not in entity_poly_seq \(3 residues\)"),
        ("MET", 1, "label_seq_id 1 is both MET 4 and MET 5"),
        ("MET", "x1", "the mmCIF is cut off or damaged"),
    ],
)
def test_a_contradiction_within_mmcif(read, component, seq, message):
    cif = CifText({1: (PROTEIN, monomers("MKT"))}, {"A": 1}).residue("MET", "A", 1, 4)
    with pytest.raises(DataError, match=message):
        read(cif.residue(component, "A", seq, 5).text(), "x.cif")


def test_mmcif_models_and_blocks(read):
    cif = CifText({1: (PROTEIN, monomers("MK"))}, {"A": 1})
    for model in (3, 7):
        cif.residue("MET", "A", 1, 1, model=model, y=model).residue("LYS", "A", 2, 2, model=model, y=model)
    structure = read(cif.text(), "x.cif", model=2)
    np.testing.assert_allclose(structure.chains[0].backbone[0], backbone_of(1, 7.0), atol=1e-3)
    assert structure.notes == ("model 2 of 2 is read",)
    two = read(cif.text() + cif.text().replace("data_TEST", "data_OTHER"), "x.cif")
    assert two.notes[0] == "2 data blocks have atoms; block 'TEST' is read"


def test_mmcif_of_a_program_that_writes_only_atoms(tmp_path):
    """By biotite, from a PDB file: no entities, and the author's ids everywhere."""
    from biotite.structure.io import load_structure, save_structure

    pdb = PdbText().chain("MK").residue("MSE", 3, hetero=True).chain("TA", 4).add("TER", "END")
    (tmp_path / "x.pdb").write_text(pdb.text())
    save_structure(tmp_path / "x.cif", load_structure(tmp_path / "x.pdb"))
    one, other = (read_structure(tmp_path / name).chains[0] for name in ("x.pdb", "x.cif"))
    assert one.residues == other.residues == "MKMTA"
    assert one.residue_ids == other.residue_ids
    np.testing.assert_allclose(one.backbone, other.backbone, atol=1e-3)


# --- broken files

GOOD = PdbText().chain("MKT").add("TER", "END").text()
GOOD_CIF = (
    CifText({1: (PROTEIN, monomers("MKT"))}, {"A": 1}).residue("MET", "A", 1, 1).residue("LYS", "A", 2, 2)
)
DNA = PdbText().residue("DA", 1, atoms=("P",)).residue("HOH", 2, hetero=True, atoms=("O",)).text()


@pytest.mark.parametrize(
    ("name", "text", "more", "message", "hint"),
    [
        ("x.pdb", "", {}, r"x\.pdb is empty", "fetch"),
        ("x.cif", "\n\n", {}, r"x\.cif is empty", "fetch"),
        (
            "x.xyz",
            GOOD,
            {},
            r"what kind of structure file .*x\.xyz is by its suffix '\.xyz'",
            r"\.pdb, \.ent",
        ),
        ("x.pdb", "HEADER    X\n", {}, r"x\.pdb has no ATOM records among its 1 lines", "whole"),
        ("x.pdb", "data_X\n#\n", {}, r"x\.pdb is mmCIF by its content", r"\.cif"),
        ("x.cif", GOOD, {}, r"x\.cif is not mmCIF: no line starts with 'data_'", r"\.pdb"),
        ("x.cif", "data_X\n#\n_entry.id X\n#\n", {}, "no category _atom_site", "whole"),
        ("x.pdb", DNA, {}, r"x\.pdb has no protein chain; it has 1 water, 1 nucleotide\n", "protein"),
        ("x.pdb", GOOD, {"chains": ["B"]}, r"x\.pdb has no protein chain 'B'", "known: A"),
        ("x.pdb", GOOD, {"chains": ["a", "A"]}, r"x\.pdb has no protein chain 'a'", "known: A"),
        ("x.pdb", GOOD, {"chains": []}, r"no chain of .*x\.pdb was asked for", "all"),
        ("x.pdb", GOOD, {"model": 2}, r"no model 2: .*x\.pdb has one model", "from 1"),
        (
            "x.pdb",
            GOOD.replace("  13.", "  1a."),
            {},
            r"line \d+: x in columns 31 to 38 is ' *1a\.",
            "columns",
        ),
        (
            "x.cif",
            GOOD_CIF.text().replace("_atom_site.Cartn_y", "_atom_site.what"),
            {},
            "no column Cartn_y",
            "what",
        ),
        ("x.cif", GOOD_CIF.text().replace("20.00 2 A", "20.00 2"), {}, "cut off or damaged", "fetch"),
    ],
)
def test_bad_input_is_one_message(read, name, text, more, message, hint):
    with pytest.raises(DataError, match=message) as raised:
        read(text, name, **more)
    assert re.search(hint, raised.value.hint)


@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "1e39"])
@pytest.mark.parametrize("name", ["x.pdb", "x.cif"])
def test_an_atom_whose_place_is_no_number_has_none(read, name, number):
    """Residue 2 begins 3.9 Å from residue 1: its N alone is at 3.9 in the one form and the other."""
    text = PdbText().chain("MKT").add("TER", "END").text()
    if name == "x.cif":
        cif = CifText({1: (PROTEIN, monomers("MKT"))}, {"A": 1})
        text = cif.residue("MET", "A", 1, 0).residue("LYS", "A", 2, 1).residue("THR", "A", 3, 2).text()
    changed = re.sub(r"(?<=\s) *3\.900?(?=\s)", lambda found: number.rjust(len(found[0])), text)
    assert changed != text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chain = read(changed, name).chains[0]
    places = read(text, name).chains[0].backbone
    is_known = np.isfinite(chain.backbone).all(axis=-1)
    assert (~is_known).sum() == 1
    assert np.isnan(chain.backbone[~is_known]).all()
    assert np.array_equal(chain.backbone[is_known], places[is_known])


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(DataError, match=r"no such file: .*absent\.pdb"):
        read_structure(tmp_path / "absent.pdb")
    (tmp_path / "link.pdb").symlink_to("gone.pdb")
    with pytest.raises(DataError, match=r"link\.pdb is a link to gone\.pdb, which is not there"):
        read_structure(tmp_path / "link.pdb")
    (tmp_path / "folder.cif").mkdir()
    with pytest.raises(DataError, match=r"folder\.cif is a folder"):
        read_structure(tmp_path / "folder.cif")


@pytest.mark.parametrize(("name", "text"), [("x.pdb.gz", GOOD), ("x.cif.gz", GOOD_CIF.text())])
def test_gzip_whole_and_cut(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()))
    structure = read_structure(str(path))
    assert (structure.name, structure.chains[0].residues) == ("x", "MKT")
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=rf"{name}: the compressed file ends too early"):
        read_structure(path)


def deposited():
    pdb = PdbText("HEADER    TEST", *seqres(three("MKTAY")), *seqres(three("GSW"), "B"))
    pdb.chain("MKTA").add("TER").chain("SW", 2, chain="B", y=20.0).add("TER")
    return pdb.residue("HOH", 90, hetero=True, atoms=("O",)).add("END").text()


def deposited_cif():
    entities = {1: (PROTEIN, monomers("MKTAY")), 2: (PROTEIN, monomers("GSW"))}
    cif = CifText(entities, {"A": 1, "B": 2})
    for seq, letter in enumerate("MKTA", 1):
        cif.residue(NAMES[letter], "A", seq, seq)
    return cif.residue("SER", "B", 2, 2).residue("TRP", "B", 3, 3).text()


@pytest.mark.parametrize(("name", "text"), [("x.pdb", deposited()), ("x.cif", deposited_cif())])
def test_a_file_cut_anywhere_is_an_error_or_loses_nothing(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    whole = read_structure(path)
    assert [chain.is_resolved.sum() for chain in whole.chains] == [4, 2]
    sizes = [*range(0, len(text) - 250, 7), *range(max(len(text) - 250, 0), len(text))]
    num_errors = 0
    for size in sizes:
        path.write_text(text[:size])
        try:
            part = read_structure(path)
        except DataError:
            num_errors += 1
            continue
        assert part.chains == whole.chains
        for one, other in zip(part.chains, whole.chains, strict=True):
            np.testing.assert_array_equal(one.backbone, other.backbone)
    assert num_errors > 0.6 * len(sizes)


def test_models_cut_off(read):
    pdb = (
        PdbText()
        .add("MODEL        1")
        .chain("MKT")
        .add("TER", "ENDMDL", "MODEL        2")
        .chain("MK")
        .add("TER")
    )
    with pytest.raises(DataError, match="the file ends within model 2"):
        read(pdb.text())


def test_readers_do_not_load_biotite():
    code = "import sys, protlm.data.readers.structure; print('biotite' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


# --- a sequence on a chain

WILD = "MSKGEELFTGVVPILVELDGDVNGHKFSVSGEGEGDATYGKLTLKFICTTGKLPVPWPTLVTTLCYGVQCF"


def chain_of(residues):
    size = len(residues)
    nothing = np.full(size, np.nan, np.float32)
    return StructureChain("A", "A", residues, ("",) * size, nothing, nothing, np.zeros(size, bool))


def test_a_wild_type_on_a_construct_with_a_tag_a_mutation_and_a_deletion():
    construct = "GSHHHHHH" + WILD[1:20] + "W" + WILD[21:40] + WILD[46:]
    places = place_on_chain(chain_of(construct), WILD)
    expected = [-1, *range(8, 47), *[-1] * 6, *range(47, 47 + len(WILD) - 46)]
    assert places.dtype == np.int64
    assert places.tolist() == expected
    assert sum(construct[place] == WILD[at] for at, place in enumerate(places) if place >= 0) == len(WILD) - 8


def test_a_sequence_longer_than_the_construct_and_an_insertion():
    construct = WILD[10:30] + "PPPPP" + WILD[30:60]
    places = place_on_chain(chain_of(construct), WILD.lower())
    assert places.tolist() == [*[-1] * 10, *range(20), *range(25, 55), *[-1] * (len(WILD) - 60)]


def test_x_counts_neither_way_and_rare_letters_align():
    construct = WILD[:30] + "X" * 8 + WILD[38:50] + "U" + WILD[51:]
    assert place_on_chain(chain_of(construct), WILD).tolist() == list(range(len(WILD)))


def test_short_peptides():
    assert place_on_chain(chain_of("SIINFEKL"), "SIINFEKL").tolist() == list(range(8))
    with pytest.raises(DataError, match="does not fit"):
        place_on_chain(chain_of("SIINFEKL"), "WWWWWWWW")


def test_another_protein_is_an_error_with_figures():
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = "".join(rng.choice(list(NAMES), size=int(rng.integers(40, 300))))
        with pytest.raises(
            DataError, match=r"71 residues does not fit chain 'A' of [\d,]+: \d+ residues align"
        ) as error:
            place_on_chain(chain_of(other), WILD)
        assert "50% be equal" in str(error.value)
    # half of the residues mutated: 34 of 71 equal, below half
    changed = "".join("W" if at % 2 and letter != "W" else letter for at, letter in enumerate(WILD))
    equal = sum(a == b for a, b in zip(changed, WILD, strict=True))
    assert equal / len(WILD) > 0.5
    assert place_on_chain(chain_of(changed), WILD).tolist() == list(range(len(WILD)))
    with pytest.raises(DataError, match="is not a residue letter"):
        place_on_chain(chain_of(WILD), "MK1")


# --- real files


@pytest.fixture(scope="session")
def complexes(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pdbs")
    with tarfile.open(shared_data / "structures/antibody_antigen/pdbs.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return sorted(folder.rglob("*.pdb"))


@pytest.mark.real_data
def test_real_files_against_their_columns(complexes):
    num_chains = num_residues = 0
    for path in complexes:
        structure = read_structure(path)
        expected = by_hand(path.read_text().splitlines())
        assert [chain.chain_id for chain in structure.chains] == list(expected)
        for chain in structure.chains:
            num_chains, num_residues = num_chains + 1, num_residues + len(chain)
            known = expected[chain.chain_id]
            assert [one for one in chain.residue_ids if one in known] == list(known)
            # PCA of two heavy and light chains, SNN of 6AL0: HETATM records within a chain
            assert len(chain) - len(known) <= 1
            for index, place in enumerate(chain.residue_ids):
                if place not in known:
                    assert (path.name[:4], chain.residues[index]) in {
                        ("3U7Y", "Q"),
                        ("6AL0", "Q"),
                        ("6AL0", "N"),
                    }
                    continue
                name, atoms = known[place]
                assert chain.residues[index] == LETTERS[name]
                xyz = [atoms.get(atom, [np.nan] * 3) for atom in ("N", "CA", "C", "O")]
                np.testing.assert_array_equal(chain.backbone[index], np.array(xyz, np.float32))
    assert (len(complexes), num_chains, num_residues) == (76, 115, 22_896)


@pytest.mark.real_data
def test_real_antibody_chains_are_those_of_the_table(shared_data, complexes):
    """Sequences, ids and centred backbones that others' code wrote, at 0.01 Å."""
    rows = pl.read_parquet(shared_data / "structures/antibody_antigen/antibody_chains_backbone.parquet")
    files = {path.name: path for path in complexes}
    num_compared = 0
    for row in rows.filter(pl.col("state") == "bound").iter_rows(named=True):
        structure = read_structure(files[f"{row['case']}_r_b.pdb"], chains=[row["chain"]])
        (chain,) = structure.chains
        known = row["residue_ids"].split(",")
        kept = [index for index, place in enumerate(chain.residue_ids) if place in known]
        assert "".join(chain.residues[index] for index in kept) == row["sequence"].replace("X", "Q")
        xyz = np.frombuffer(row["backbone_xyz"], "<i2").reshape(-1, 4, 3).astype(float)
        xyz[xyz == -32768] = np.nan
        ours = chain.backbone[kept].astype(float)
        ours -= np.nanmean(ours[:, 1], axis=0)
        np.testing.assert_allclose(ours, xyz / 100, atol=0.02)
        num_compared += len(kept)
    assert num_compared > 10_000


@pytest.mark.real_data
@pytest.mark.parametrize("case", ["3SE8_l_b", "4GXU_r_b", "5JMO_l_b"])
def test_real_files_as_mmcif_by_biotite(complexes, tmp_path, case):
    from biotite.structure.io.pdb import PDBFile
    from biotite.structure.io.pdbx import CIFFile, set_structure

    (path,) = (path for path in complexes if path.stem == case)
    file = CIFFile()
    set_structure(file, PDBFile.read(path).get_structure(model=1, extra_fields=["b_factor", "occupancy"]))
    text = io.StringIO()
    file.write(text)
    with gzip.open(tmp_path / f"{case}.cif.gz", "wt") as out:
        out.write(text.getvalue())
    one, other = read_structure(path), read_structure(tmp_path / f"{case}.cif.gz")
    assert one.chains == other.chains
    assert one.notes == other.notes
    for ours, theirs in zip(one.chains, other.chains, strict=True):
        np.testing.assert_allclose(ours.backbone, theirs.backbone, atol=1e-3)
        np.testing.assert_allclose(ours.b_factor, theirs.b_factor, atol=1e-3)


@pytest.mark.real_data
def test_a_real_wild_type_on_real_structures(shared_data, complexes):
    wild = {
        row["dataset"] if "dataset" in row else next(iter(row.values())): row
        for row in pl.read_csv(
            shared_data / "dms/dms_reference.tsv", separator="\t", infer_schema=False
        ).iter_rows(named=True)
    }
    gfp = next(row["wt_sequence"] for name, row in wild.items() if "avgfp" in name.lower())
    rows = pl.read_parquet(shared_data / "structures/metl_monomers_backbone.parquet")
    row = rows.row(by_predicate=pl.col("id") == "1gfl_cm", named=True)
    places = place_on_chain(chain_of(row["sequence"]), gfp)
    equal = [row["sequence"][place] == gfp[at] for at, place in enumerate(places) if place >= 0]
    assert len(equal) > 220
    assert np.mean(equal) > 0.97
    (path,) = (path for path in complexes if path.stem == "1DQJ_l_b")
    with pytest.raises(DataError, match="does not fit chain 'C' of 129"):
        place_on_chain(read_structure(path).chains[0], gfp)
