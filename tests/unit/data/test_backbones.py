"""Sets of backbones, their files, BinaryCIF, and what is refused."""

import gzip
import json

import numpy as np
import polars as pl
import pytest

from fixtures.complexes import line_of, write_pdb
from fixtures.structure_files import cif_text, to_binary_cif
from protlm.data.backbone_tables import MISSING, BackboneWriter
from protlm.data.backbones import BackboneSet, backbone_digest, open_backbones
from protlm.data.readers.structure import read_structure
from protlm.errors import DataError
from protlm.types.structure import Backbone


def random_backbone(name, chains, *, seed=0, gone=()):
    """Chains by id: residues. Coordinates are far from the origin; residues of `gone` have none."""
    size = sum(map(len, chains.values()))
    places = np.random.default_rng(seed).normal(80, 15, (size, 4, 3)).astype(np.float32)
    places[list(gone)] = np.nan
    index = np.repeat(np.arange(len(chains)), [len(each) for each in chains.values()])
    ids = tuple("" if row in gone else f"{row + 5}A" for row in range(size))
    return Backbone(name, "".join(chains.values()), places, index, tuple(chains), ids)


def written(path, backbones, labels=None, kinds=None):
    with BackboneWriter(path, kinds) as writer:
        for number, each in enumerate(backbones):
            writer.add(each, labels[number] if labels else None)
    return path


def test_what_is_written_is_read_within_half_a_unit(tmp_path):
    import pyarrow as pa

    some = [
        random_backbone("a", {"h_l": "MKTA", "L": "GS"}, gone=(1, 5)),
        random_backbone("b", {"": "W"}, seed=1),
    ]
    path = written(
        tmp_path / "x.parquet", some, [{"fold": "3.30"}, {}], {"fold": pa.string(), "n": pa.float64()}
    )
    read = open_backbones(path)
    assert read.ids == ("a", "b")
    assert read.lengths.tolist() == [6, 1]
    assert read.labels.to_dicts() == [{"fold": "3.30", "n": None}, {"fold": None, "n": None}]
    for one, other in zip(some, read, strict=True):
        assert other == one  # id, residues, chain ids, residue ids
        assert other.chain_index.tolist() == one.chain_index.tolist()
        assert np.array_equal(np.isnan(one.coordinates), np.isnan(other.coordinates))
        centre = np.nanmean(one.coordinates[:, 1].astype(float), axis=0)
        away = np.nanmax(np.abs(other.coordinates - (one.coordinates - centre)))
        assert away <= 0.00502
    assert open_backbones(path).digest == read.digest
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_rows_of_many_groups_come_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("protlm.data.backbone_tables.ROW_GROUP", 3)
    some = [
        random_backbone(f"n{number}", {"A": "MKTAY"[: 1 + number % 5]}, seed=number) for number in range(10)
    ]
    read = open_backbones(written(tmp_path / "x.parquet", some))
    for row in (9, 0, 2, 3, 8, 5, -1):
        assert read[row].id == some[row].id
        assert read[row].residues == some[row].residues
    part = read.take([7, 1])
    assert (part.ids, part[0].id, part.lengths.tolist(), len(read[2:5])) == (("n7", "n1"), "n7", [3, 2], 3)


def test_the_form_of_the_shared_files_is_read(tmp_path):
    """As their notes state it: little-endian int16, [n, 4, 3], 0.01 Å, -32768 missing; ids of two columns."""
    units = np.arange(24, dtype="<i2").reshape(2, 4, 3) * 100
    units[1, 3] = -32768
    row = {"pdb": "1abc", "chain": "b", "n_res": 2, "sequence": "MK", "residue_ids": "7,7A", "kind": "heavy"}
    pl.DataFrame([{**row, "backbone_xyz": units.tobytes()}]).write_parquet(tmp_path / "x.parquet")
    (one,) = open_backbones(tmp_path / "x.parquet")
    assert (one.id, one.residues, one.chain_ids, one.residue_ids) == ("1abc_b", "MK", ("b",), ("7", "7A"))
    assert one.coordinates[0].tolist() == np.arange(12.0).reshape(4, 3).tolist()
    assert np.isnan(one.coordinates[1, 3]).all()
    assert one.is_resolved.tolist() == [True, True]
    assert MISSING == -32768


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sequence": "MKT"}, r"row 1, '1abc_b': n_res is 2, but the sequence has 3 residues"),
        ({"n_res": 3}, "n_res is 3"),
        ({"backbone_xyz": b"\0" * 46}, r"backbone_xyz 46 bytes \(expected 48\)"),
        ({"residue_ids": "7"}, "1 residue ids for 2 residues"),
        ({"chain_ids": ["a", "b"], "chain_lengths": [1, 2]}, "have 1, 2 residues, and the sequence 2"),
        ({"chain_ids": ["a", "b"], "chain_lengths": [3, -1]}, "have 3, -1 residues, and the sequence 2"),
        ({"chain_ids": [None, "b"], "chain_lengths": [1, 1]}, "chains None, b have"),
        ({"sequence": None}, "row 1, '1abc_b' has no sequence"),
        ({"backbone_xyz": None}, "row 1, '1abc_b' has no backbone_xyz"),
        ({"n_res": None}, "row 1, '1abc_b' has no n_res"),
        ({"sequence": "M?"}, r"row 1, '1abc_b': '\?' at position 2"),
    ],
)
def test_no_length_may_differ(tmp_path, change, says):
    row = {"pdb": "1abc", "chain": "b", "n_res": 2, "sequence": "MK", "residue_ids": "7,8"}
    pl.DataFrame([{**row, "backbone_xyz": b"\0" * 48, **change}]).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=says):
        open_backbones(tmp_path / "x.parquet")[0]


def test_other_tables_and_cut_files_are_refused(tmp_path):
    pl.DataFrame({"id": ["a"], "sequence": ["MK"]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no column n_res, backbone_xyz"):
        open_backbones(tmp_path / "x.parquet")
    path = written(tmp_path / "y.parquet", [random_backbone("a", {"A": "MK"})])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        open_backbones(path)
    path = written(tmp_path / "y.parquet", [random_backbone("a", {"A": "MK" * 500})])
    whole = path.read_bytes()
    for start in (4, 2000):  # pages of names, and of coordinates
        path.write_bytes(whole[:start] + bytes(1000) + whole[start + 1000 :])
        with pytest.raises(DataError, match=r"y\.parquet is damaged"):
            open_backbones(path)[0]
    far = random_backbone("far", {"A": "MK"})
    far.coordinates[0] -= 800
    with pytest.raises(DataError, match=r"reaches 4\d\d Å from its centre"):
        written(tmp_path / "z.parquet", [far])
    assert not (tmp_path / "z.parquet").exists()
    assert not list(tmp_path.glob("*.part*"))


def test_the_digest_is_of_what_an_encoder_sees():
    one = random_backbone("a", {"H": "MKTA", "L": "GS"}, gone=(2,))
    renamed = Backbone("b", one.residues, one.coordinates, one.chain_index, ("x", "y"))
    assert backbone_digest(one) == backbone_digest(renamed)
    payload = one.coordinates.copy()
    payload.view(np.uint32)[2] = 0x7FC00001  # another NaN
    assert backbone_digest(
        Backbone("a", one.residues, payload, one.chain_index, ("x", "y"))
    ) == backbone_digest(one)
    moved = one.coordinates.copy()
    moved[0, 0, 0] += 0.01
    others = [
        Backbone("a", one.residues, moved, one.chain_index, one.chain_ids),
        Backbone("a", "MKTAGA", one.coordinates, one.chain_index, one.chain_ids),
        Backbone("a", one.residues, one.coordinates, np.array([0, 0, 0, 1, 1, 1]), one.chain_ids),
    ]
    assert len({backbone_digest(each) for each in [one, *others]}) == 4
    assert BackboneSet.of([one, others[0]]).digest != BackboneSet.of([others[0], one]).digest


def test_json_of_both_forms(tmp_path):
    atoms = np.arange(24.0).reshape(2, 4, 3)
    listed = [{"name": "1abcA", "seq": "MK", "coords": atoms.tolist(), "topology": "3.30", "len": 2}]
    with gzip.open(tmp_path / "x.json.gz", "wt") as file:
        json.dump(listed, file)
    by_atom = {name: atoms[:, place].tolist() for place, name in enumerate(("N", "CA", "C", "O"))}
    by_atom["O"][1] = [None] * 3
    lines = [{"name": "one", "seq": "MK", "coords": by_atom}, {"name": "two", "seq": "MK", "coords": by_atom}]
    (tmp_path / "y.jsonl").write_text("\n".join(map(json.dumps, lines)))
    first, second = open_backbones(tmp_path / "x.json.gz"), open_backbones(tmp_path / "y.jsonl")
    assert first.labels.to_dicts() == [{"topology": "3.30", "len": 2}]
    assert np.array_equal(first[0].coordinates, atoms)
    assert second.ids == ("one", "two")
    assert np.array_equal(second[0].coordinates[:, :3], atoms[:, :3])
    assert np.isnan(second[1].coordinates[1, 3]).all()


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"name": "a", "seq": "MKT", "coords": [[[0.0] * 3] * 4] * 2}, r"shape \[2, 4, 3\] for 3 residues"),
        ({"name": "a", "seq": "MK"}, "entry 1 has name, seq"),
        ({"name": "a", "seq": "MK", "coords": {"N": [[0.0] * 3] * 2}}, "coords are no array"),
        ({"name": "a", "seq": "MK", "coords": [[[0.0] * 3] * 4, [[0.0] * 3]]}, "coords are no array"),
    ],
)
def test_json_that_is_wrong(tmp_path, entry, says):
    (tmp_path / "x.json").write_text(json.dumps([entry]))
    with pytest.raises(DataError, match=says):
        open_backbones(tmp_path / "x.json")


_WHOLE = json.dumps({"name": "a", "seq": "M", "coords": [[[0.0] * 3] * 4]})[:-1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 200_000, "x.json is not JSON of backbones .brackets nested too deeply"),
        (_WHOLE + ', "n": ' + "1" * 5_000 + "}", "x.json is not JSON of backbones .Exceeds the limit"),
        (_WHOLE + ', "n": 1' + "0" * 30 + "}", "entry 1, 'a': n is 10{30}, expected a whole number of 64"),
        (_WHOLE + ', "n": 1' + "0" * 400 + "}", "n is a number of 401 digits, expected"),
        (_WHOLE + f', "n": {2**63}}}', "n is 9223372036854775808, expected"),
        (_WHOLE + f', "n": {-(2**63) - 1}}}', "n is -9223372036854775809, expected"),
        (_WHOLE.replace("0.0", "1" + "0" * 400, 1) + "}", "entry 1, 'a': coords are no array"),
    ],
)
def test_json_that_python_cannot_hold_is_one_message(tmp_path, text, says):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=says):
        open_backbones(tmp_path / "x.json")


def test_the_largest_labels_of_json_become_columns(tmp_path):
    (tmp_path / "x.json").write_text(_WHOLE + f', "n": {2**63 - 1}, "m": {-(2**63)}}}')
    schema = open_backbones(tmp_path / "x.json").labels.to_arrow().schema
    assert {name: str(schema.field(name).type) for name in schema.names} == {"n": "int64", "m": "int64"}


def test_a_folder_of_files_is_one_backbone_each(tmp_path):
    write_pdb(tmp_path / "b.PDB", {"A": ("MKTAY", line_of(5)), "B": ("GS", line_of(2, y=9.0))})
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.cif").write_text(
        cif_text({"h_l": ("MKTAYI", line_of(6))}, missing={"h_l": {2}}, models=2)
    )
    (tmp_path / "notes.txt").write_text("x")
    read = open_backbones(tmp_path)
    assert set(read.ids) == {"a", "b"}
    one, two = read[read.ids.index("a")], read[read.ids.index("b")]
    assert (two.residues, two.chain_ids) == ("MKTAYGS", ("A", "B"))
    assert (one.residues, one.chain_ids, one.residue_ids[2]) == ("MKTAYI", ("h_l",), "")
    assert one.is_resolved.tolist() == [True, True, False, True, True, True]
    assert one.coordinates[:, 1, 2].tolist()[0] == 0.0  # the first model
    (tmp_path / "b.cif.gz").write_bytes(b"")
    with pytest.raises(DataError, match="has structure 'b' twice"):
        open_backbones(tmp_path)


# --- BinaryCIF


def test_binary_cif_is_read_as_its_text(tmp_path):
    chains = {"h_l": ("MKTAYIAKQR", line_of(10)), "H": ("GSWFYVVLIM", line_of(10, y=15.0))}
    text = cif_text(chains, missing={"h_l": {3, 4}}, models=2)
    (tmp_path / "x.cif").write_text(text)
    path = to_binary_cif(text, tmp_path / "x.bcif")
    packed = tmp_path / "y.BCIF.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for model in (1, 2):
        expected = read_structure(tmp_path / "x.cif", model=model)
        for found in (read_structure(path, model=model), read_structure(packed, model=model)):
            assert (found.num_models, found.notes) == (2, expected.notes)
            for one, other in zip(expected.chains, found.chains, strict=True):
                assert one == other
                np.testing.assert_allclose(one.backbone, other.backbone, atol=1e-3)
    assert read_structure(path, chains=["h_l"]).chains[0].residues == "MKTAYIAKQR"
    with pytest.raises(DataError, match="has no protein chain 'h'"):
        read_structure(path, chains=["h"])


def test_binary_cif_that_is_cut_or_something_else(tmp_path):
    path = to_binary_cif(cif_text({"A": ("MKTAY", line_of(5))}), tmp_path / "x.bcif")
    whole = path.read_bytes()
    for stop in (1, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:stop])
        with pytest.raises(DataError, match="the BinaryCIF is cut off or damaged"):
            read_structure(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        read_structure(path)
    path.write_text("data_1ABC\n")
    with pytest.raises(DataError, match="cut off or damaged"):
        read_structure(path)
    path = tmp_path / "z.bcif.gz"
    path.write_bytes(gzip.compress(whole)[:-30])
    with pytest.raises(DataError, match="the compressed file ends too early"):
        read_structure(path)


@pytest.mark.real_data
def test_the_shared_sets_are_their_sources(shared_data):
    folder = shared_data / "structures"
    for name, size in (
        ("cath_domains_backbone.parquet", 1307),
        ("vhh_backbone.parquet", 170),
        ("metl_monomers_backbone.parquet", 155),
        ("antibody_antigen/antibody_chains_backbone.parquet", 128),
    ):
        read = open_backbones(folder / name)
        table = pl.read_parquet(folder / name)
        assert len(read) == len(table) == size
        assert len(set(read.ids)) == size
        for one, row in zip(read, table.iter_rows(named=True), strict=True):
            assert one.residues == row["sequence"]
            units = np.frombuffer(row["backbone_xyz"], "<i2").reshape(-1, 4, 3)
            assert np.array_equal(np.isnan(one.coordinates), units == -32768)
        assert np.nanmax(np.abs(one.coordinates * 100 - np.where(units == -32768, np.nan, units))) < 0.01
    entries = json.loads(gzip.decompress((folder / "ts50.json.gz").read_bytes()))
    for one, entry in zip(open_backbones(folder / "ts50.json.gz"), entries, strict=True):
        assert (one.id, one.residues) == (entry["name"], entry["seq"])
        assert np.array_equal(one.coordinates, np.array(entry["coords"], np.float32), equal_nan=True)
