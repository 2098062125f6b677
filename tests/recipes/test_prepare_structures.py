"""prepare --structures: what is taken, what is left out and counted, and that nothing shifts."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest
from typer.testing import CliRunner

from fixtures.antibodies import HEAVY_REGIONS, LIGHT_REGIONS, LINKER, VH, VL
from fixtures.complexes import line_of, write_pdb
from fixtures.structure_files import antibody_places, cif_text, to_binary_cif
from protlm.cli.main import app
from protlm.data.backbone_tables import BackboneWriter
from protlm.data.backbones import BACKBONES, open_backbones
from protlm.data.corpus import Corpus
from protlm.data.readers.sabdab_summary import read_summary
from protlm.errors import ConfigError, DataError, ModelError
from protlm.recipes.prepare_structures import StructureSettings, prepare_structures
from protlm.types.record import Role
from protlm.types.structure import Backbone

CH1, CL = "ASTKGPSVFPLAPSSKSTSGGTAALGCLVKDYFPE", "RTVAAPSVFIFPPSDEQLKSGTASVVCLLNNFYPR"
ANTIGEN = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIE"
_CYS_H = sum(map(len, HEAVY_REGIONS[:5])) - 1
_CYS_L = sum(map(len, LIGHT_REGIONS[:5])) - 1


def fab(at=(0.0, 0.0, 0.0), *, heavy="H", light="L", apart=15.0, tails=True):
    """A heavy and a light chain as lines whose second cysteines are `apart` Å."""
    vh, vl = VH + CH1 * tails, VL + CL * tails
    return {
        heavy: (vh, antibody_places(len(vh), cysteine=_CYS_H, at=at)),
        light: (vl, antibody_places(len(vl), cysteine=_CYS_L, at=(at[0], at[1] + apart, at[2]))),
    }


def folded(length):
    """Places 3.8 Å apart on a square grid."""
    return [(3.8 * (index % 50), 3.8 * (index // 50), 0.0) for index in range(length)]


def antigen(at=(0.0, 0.0, -8.0), letters=ANTIGEN):
    return letters, [(at[0] + 3.8 * index, at[1], at[2]) for index in range(len(letters))]


def made(source, out, **settings):
    """Prepare, and give id → chains as letters; rows and records are compared one by one."""
    policy = settings.pop("policy", None)
    prepared = prepare_structures(source, out, settings=StructureSettings(**settings), policy=policy)
    corpus, backbones = Corpus(out), open_backbones(out)
    assert len(corpus) == len(backbones) == prepared.corpus.manifest["backbones"]["rows"]
    records = {}
    for row, backbone in enumerate(backbones):
        record = corpus.record(row)
        assert record.id == backbone.id
        letters = [backbone.chain(name).residues for name in backbone.chain_ids]
        assert [chain.residues for chain in record.chains] == letters
        records[record.id] = dict(zip(backbone.chain_ids, letters, strict=True))
    return prepared, records


@pytest.fixture
def crystal(tmp_path):
    """Two Fabs with multi-character ids, an antigen on one of them, and a chain that touches nothing."""
    chains = fab() | fab((0.0, 300.0, 0.0), heavy="h_l", light="l_l")
    chains |= {"Ag": antigen(), "ag": antigen((0.0, 0.0, 200.0), "GSWFYVVLIMGSWFYVVLIM")}
    path = tmp_path / "files" / "1abc.cif"
    path.parent.mkdir()
    path.write_text(cif_text(chains, missing={"H": {0, 1, 30}, "Ag": {2}}))
    return path


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("fv", {"H": VH, "L": VL}),
        ("vh", {"H": VH}),
        ("vl", {"L": VL}),
        ("fab", {"H": VH + CH1, "L": VL + CL}),
        ("complex", {"H": VH + CH1, "L": VL + CL, "Ag": ANTIGEN}),
        (
            "cdrs",
            {
                **{f"H:CDR{n}": HEAVY_REGIONS[2 * n - 1] for n in (1, 2, 3)},
                **{f"L:CDR{n}": LIGHT_REGIONS[2 * n - 1] for n in (1, 2, 3)},
            },
        ),
    ],
)
def test_regions_of_numbered_chains(tmp_path, crystal, region, expected):
    prepared, records = made(crystal.parent, tmp_path / "out", region=region)
    assert list(records) == ["1abc_H_L", "1abc_h_l_l_l"]
    assert records["1abc_H_L"] == expected
    assert list(records["1abc_H_L"]) == list(expected)  # heavy first, antigen last
    record = Corpus(tmp_path / "out").record(0)
    roles = {"H": Role.HEAVY, "L": Role.LIGHT, "A": Role.OTHER}
    assert [chain.role for chain in record.chains] == [roles[name[0]] for name in expected]
    if "H" in expected:
        assert record.group.endswith(HEAVY_REGIONS[5])
        gone = sum(len(each) for each in expected.values() if each.startswith("EVQ")) and [0, 1, 30]
        backbone = open_backbones(tmp_path / "out")[0]
        heavy = backbone.chain("H")
        assert np.flatnonzero(~heavy.is_resolved).tolist() == gone
        assert [heavy.residue_ids[row] for row in (0, 1, 2, 31)] == ["", "", "3", "32"]
        # neighbours in number are neighbours in space, across what is unresolved
        assert np.allclose(np.diff(heavy.coordinates[31:60, 1, 0]), 3.8, atol=0.011)
        assert np.isclose(heavy.coordinates[31, 1, 0] - heavy.coordinates[2, 1, 0], 29 * 3.8, atol=0.011)
    dropped = prepared.corpus.manifest["dropped"]
    assert dropped == ({"a chain that touches no CDR, beside an antibody": 1} if region == "complex" else {})


def test_pairs_are_by_distance_and_a_far_light_chain_stays_alone(tmp_path):
    near = fab(heavy="B", light="a", apart=18.0, tails=False)
    far = fab((0, 400.0, 0), heavy="A", light="b", apart=23.0, tails=False)
    (tmp_path / "x.cif").write_text(cif_text(near | far))
    _, records = made(tmp_path / "x.cif", tmp_path / "out", region="fv")
    assert {name: list(each) for name, each in records.items()} == {
        "x_B_a": ["B", "a"],
        "x_A": ["A"],
        "x_b": ["b"],
    }
    prepared, records = made(tmp_path / "x.cif", tmp_path / "out2", region="vh")
    assert list(records) == ["x_B_a", "x_A"]
    assert prepared.corpus.manifest["dropped"] == {"no heavy domain": 1}


HEAD = "pdb\tHchain\tLchain\tmodel\tantigen_chain\tantigen_type\tresolution\theavy_species\n"


def summary(path, *rows):
    path.write_text(HEAD + "".join("\t".join(row) + "\n" for row in rows))
    return path


def test_a_summary_names_the_chains(tmp_path, crystal):
    scfv = VL + LINKER + VH
    (crystal.parent / "2SCF.PDB").write_text("")
    write_pdb(crystal.parent / "2SCF.PDB", {"S": (scfv, folded(len(scfv))), "A": antigen()})
    (crystal.parent / "9xyz.cif.gz").write_bytes(gzip.compress(crystal.read_bytes()))
    table = summary(
        tmp_path / "summary.tsv",
        ("1ABC", "h_l", "l_l", "0", "NA", "NA", "2.1, 2.3", "homo sapiens"),
        ("1abc", "L", "H", "0", "Ag | X", "protein | Hapten", "NOT", "NA"),
        ("1abc", "H", "NA", "0", "ag", "peptide", "1.5", "mus musculus"),
        ("2scf", "S", "S", "0", "A", "protein", "3", "NA"),
        ("3gone", "H", "L", "0", "NA", "NA", "1", "NA"),
        ("1abc", "Z", "L", "0", "NA", "NA", "1", "NA"),
        ("1abc", "h", "L", "0", "NA", "NA", "1", "NA"),
        ("1abc", "Ag", "L", "0", "NA", "NA", "1", "NA"),
        ("1abc", "L", "NA", "0", "NA", "NA", "1", "NA"),
        ("1abc", "H", "L", "0", "B", "protein", "1", "NA"),
        ("1abc", "H", "L", "1", "NA", "NA", "1", "NA"),
        ("1ABC", "h_l", "l_l", "0", "NA", "NA", "2.1", "homo sapiens"),
    )
    prepared, records = made(crystal.parent, tmp_path / "out", summary=table)
    assert records == {
        "1ABC_h_l_l_l": {"h_l": VH + CH1, "l_l": VL + CL},
        "1abc_L_H_Ag": {"H": VH + CH1, "L": VL + CL, "Ag": ANTIGEN},
        "1abc_H_ag": {"H": VH + CH1, "ag": "GSWFYVVLIMGSWFYVVLIM"},
        "2scf_S_A": {"S:heavy": VH, "S:light": VL, "A": ANTIGEN},
    }
    manifest = prepared.corpus.manifest
    assert manifest["dropped"] == {
        "a row of the summary whose file is missing": 1,
        "a row of the summary with a chain that its file lacks": 2,
        "a chain named heavy in the summary, without any domain": 1,
        "a chain named heavy in the summary, with a light domain alone": 1,
        "a row of the summary with an antigen chain that its file lacks": 1,
        "a row of the summary with a model that its file lacks": 1,
        "an antibody that an earlier row of the summary names": 1,
    }
    lines = "\n".join(prepared.lines())
    assert "line 6, 3gone" in lines
    assert "line 7, 1abc.cif: no protein chain 'Z' among H, L, h_l, l_l, Ag, ag" in lines
    assert "no model 2" in lines
    assert "1 files are not in the summary (first: 9xyz.cif.gz)" in lines
    assert "split into domains; 15 residues beside them left out" in lines
    assert manifest["changed"] == {
        "heavy and light chain named the wrong way round in the summary, put right": 1,
        "antigen that is no protein, not in the record": 1,
        "residue without N, CA or C, kept in the sequence without a place": 7,
    }
    labels = [Corpus(tmp_path / "out").record(row).labels for row in range(4)]
    assert labels[0]["resolution"] == 2.1
    assert labels[0]["heavy_species"] == "homo sapiens"
    assert "resolution" not in labels[1]
    assert labels[1]["antigen_chains"] == "Ag"
    table = open_backbones(tmp_path / "out").labels
    assert table["resolution"].to_list() == [2.1, None, 1.5, 3.0]
    with pytest.raises(DataError, match="a row of the summary with a chain that its file lacks"):
        run_strict(crystal.parent, tmp_path / "strict", tmp_path / "summary.tsv")


def test_what_a_damaged_file_lacks_is_told_from_what_cannot_be_read(tmp_path, crystal):
    """Chain ag contradicts its construct, so that each row is read by its own chains."""
    lines = crystal.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.split()[-2:] == ["ag", "1"])
    lines[at] = lines[at].replace(" GLY ", " TRP ")
    crystal.write_text("\n".join(lines) + "\n")
    rows = [("H", "L", "Ag", "0"), ("h_l", "l_l", "Q", "0"), ("Z", "L", "NA", "0"), ("H", "L", "ag", "0")]
    rows += [("H", "L", "Ag", "4")]
    table = summary(
        tmp_path / "s.tsv",
        *(
            ("1abc", heavy, light, model, antigen, "protein", "1", "NA")
            for heavy, light, antigen, model in rows
        ),
    )
    prepared, records = made(crystal.parent, tmp_path / "out", summary=table)
    assert list(records) == ["1abc_H_L_Ag"]
    manifest = prepared.corpus.manifest
    assert manifest["dropped"] == {
        "a row of the summary with an antigen chain that its file lacks": 1,
        "a row of the summary with a chain that its file lacks": 1,
        "a file that cannot be read": 1,
        "a row of the summary with a model that its file lacks": 1,
    }
    examples = manifest["examples"]
    assert examples["a row of the summary with a chain that its file lacks"] == [
        f"line 4, 1abc.cif: {crystal} has no protein chain 'Z'"
    ]
    (missing,) = examples["a row of the summary with a model that its file lacks"]
    assert missing.startswith("line 6, 1abc.cif: no model 5: ")
    _, records = made(crystal.parent, tmp_path / "out2", summary=table, region="fv")
    assert list(records) == ["1abc_H_L", "1abc_h_l_l_l"]  # which need no antigen


def run_strict(source, out, table):
    from protlm.data.readers import InputPolicy

    return made(source, out, summary=table, policy=InputPolicy(invalid="error"))


def test_rows_of_one_antibody_are_one_record_however_they_are_written(tmp_path, crystal):
    """Case of the pdb, heavy and light swapped, antigens in another order; another model is another one."""
    crystal.write_text(cif_text(fab() | {"Ag": antigen(), "B": antigen((0.0, 9.0, -8.0))}, models=2))
    rows = [("1ABC", "H", "L", "Ag | B"), ("1abc", "L", "H", "Ag | B"), ("1abc", "H", "L", "B | Ag")]
    others = [("1abc", "H", "L", "B"), ("1abc", "H", "NA", "B")]
    table = summary(
        tmp_path / "summary.tsv",
        *((*row[:3], "0", row[3], "protein", "1", "NA") for row in rows + others),
        ("1abc", "H", "L", "1", "B", "protein", "1", "NA"),
    )
    prepared, records = made(crystal.parent, tmp_path / "out", summary=table)
    assert list(records) == ["1ABC_H_L_Ag,B", "1abc_H_L_B", "1abc_H_B", "1abc_H_L_m2_B"]
    manifest = prepared.corpus.manifest
    assert manifest["dropped"] == {"an antibody that an earlier row of the summary names": 2}
    _, records = made(crystal.parent, tmp_path / "out2", summary=table, region="fv")
    assert list(records) == ["1ABC_H_L", "1abc_H", "1abc_H_L_m2"]


def single_chain(apart):
    """VH, linker and VL in one chain, with the second cysteines `apart` Å."""
    heavy = antibody_places(len(VH + LINKER), cysteine=_CYS_H, at=(0.0, 0.0, 0.0))
    return VH + LINKER + VL, heavy + antibody_places(len(VL), cysteine=_CYS_L, at=(0.0, apart, 0.0))


def test_an_scfv_is_two_domains_without_a_summary_too(tmp_path):
    write_pdb(tmp_path / "x.pdb", {"S": single_chain(21.0)})
    _, records = made(tmp_path / "x.pdb", tmp_path / "out", region="fab")
    assert records == {"x": {"S:heavy": VH, "S:light": VL}}


def test_domains_of_one_chain_that_are_far_apart_pair_with_those_of_another(tmp_path):
    """A diabody: VH of each chain lies at VL of the other."""
    one, (residues, places) = single_chain(60.0), single_chain(-60.0)
    other = residues, [(x, y + 75.0, z) for x, y, z in places]  # VH at 75, VL at 15
    write_pdb(tmp_path / "x.pdb", {"A": one, "B": other})
    _, records = made(tmp_path / "x.pdb", tmp_path / "out", region="fv")
    assert records == {
        "x_A_B": {"A:heavy": VH, "B:light": VL},
        "x_B_A": {"B:heavy": VH, "A:light": VL},
    }
    write_pdb(tmp_path / "y.pdb", {"A": single_chain(23.0)})
    _, records = made(tmp_path / "y.pdb", tmp_path / "out2", region="fv")
    assert records == {"y_A": {"A:heavy": VH}, "y_A_2": {"A:light": VL}}


def test_domains_of_one_chain_without_a_second_cysteine_are_a_pair(tmp_path):
    residues, places = single_chain(60.0)
    (tmp_path / "x.cif").write_text(cif_text({"A": (residues, places)}, missing={"A": {_CYS_H}}))
    _, records = made(tmp_path / "x.cif", tmp_path / "out", region="fv")
    assert records == {"x": {"A:heavy": VH, "A:light": VL}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("pdb\tHchain\n", "no column lchain"),
        (HEAD + "1abc\tH\n", "line 2: 2 cells, expected 8"),
        (HEAD + "1abc\tNA\tNA\t0\tNA\tNA\t1\tNA\n", "name no antibody"),
        (HEAD + "1abc\tH\tL\tx\tNA\tNA\t1\tNA\n", "model 'x' is no number"),
        (HEAD + "1abc\tH\tL\t²\tNA\tNA\t1\tNA\n", "model '²' is no number"),
    ],
)
def test_summaries_that_are_none(tmp_path, text, says):
    (tmp_path / "s.tsv").write_text(text)
    with pytest.raises(DataError, match=says):
        read_summary(tmp_path / "s.tsv")


def test_each_kind_of_bad_file_is_named_and_counted(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    good = {"A": ("MKTAYIAK", line_of(8))}
    write_pdb(folder / "good.pdb", good)
    write_pdb(folder / "alpha.pdb", good, atoms=("CA",))
    text = cif_text(good)
    (folder / "sides.cif").write_text(cif_text(good).replace(" N N ", " C CB ").replace(" C CA ", " C CG "))
    rows = [
        " ".join([*cells[:10], "?", "?", "?", *cells[13:]]) if len(cells := line.split()) == 18 else line
        for line in text.splitlines()
    ]
    (folder / "nan.cif").write_text("\n".join(rows) + "\n")
    one = write_pdb(folder / "twice.pdb", good).read_text()
    (folder / "twice.pdb").write_text(one + one)
    (folder / "cut.cif.gz").write_bytes(gzip.compress(text.encode())[:-40])
    (folder / "empty.ent").write_text("")
    to_binary_cif(text, folder / "whole.bcif")
    write_pdb(folder / "long.pdb", {"A": ("MKTAYIAKQR" * 3, line_of(30))})
    write_pdb(folder / "wide.pdb", {"A": ("MK", [(0, 0, 0), (900, 0, 0)])})
    prepared, records = made(folder, tmp_path / "out", max_residues=20)
    assert records == {"good": {"A": "MKTAYIAK"}, "whole": {"A": "MKTAYIAK"}}
    manifest = prepared.corpus.manifest
    examples = {reason: " ".join(places) for reason, places in manifest["examples"].items()}
    assert manifest["dropped"] == {
        "a file that cannot be read": 3,
        "a chain with Cα only: no residue has N, CA and C": 1,
        "a chain without backbone: no atom, or no number, where N, CA and C should be": 2,
        "longer than --max-residues 20": 1,
        "an atom over 327.67 Å from the centre": 1,
    }
    unreadable = examples["a file that cannot be read"]
    assert "cut.cif.gz: the compressed file ends too early" in unreadable
    assert "empty.ent is empty" in unreadable
    assert "twice.pdb" in unreadable
    assert "alpha.pdb" in examples["a chain with Cα only: no residue has N, CA and C"]
    assert "long.pdb: 30 residues" in examples["longer than --max-residues 20"]
    assert sum(manifest["dropped"].values()) + len(records) == len(list(folder.iterdir()))


def test_links_to_files_that_are_gone_are_counted(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    write_pdb(folder / "good.pdb", {"A": ("MKTAYIAK", line_of(8))})
    (folder / "gone.pdb").symlink_to(tmp_path / "elsewhere.pdb")
    (folder / "notes.txt").symlink_to(tmp_path / "notes.txt")
    prepared, records = made(folder, tmp_path / "out")
    assert list(records) == ["good"]
    manifest = prepared.corpus.manifest
    assert manifest["dropped"] == {"a file that cannot be read": 1}
    (said,) = manifest["examples"]["a file that cannot be read"]
    assert said.endswith(f"gone.pdb is a link to {tmp_path / 'elsewhere.pdb'}, which is not there")
    assert manifest["inputs"][0]["files"] == 1


def test_tables_without_rows_are_named(tmp_path):
    with BackboneWriter(tmp_path / "none.parquet"):
        pass
    with pytest.raises(DataError, match=r"none\.parquet has no record\n") as raised:
        prepare_structures(tmp_path / "none.parquet", tmp_path / "out")
    assert "--invalid" not in (raised.value.hint or "")
    (tmp_path / "files").mkdir()
    write_pdb(tmp_path / "files" / "a.pdb", {"A": ("MKTAYIAK", line_of(8))})
    with pytest.raises(DataError, match=r"s\.tsv has no row below its header"):
        made(tmp_path / "files", tmp_path / "out", summary=summary(tmp_path / "s.tsv"))
    assert not list(tmp_path.glob("out*"))


def test_one_chain_without_backbone_takes_its_record_with_it(tmp_path, crystal):
    """An antigen of Cα alone drops the complex; --region fv keeps the antibody."""
    lines = crystal.read_text().splitlines()
    kept = [line for line in lines if " Ag 1" not in line or line.split()[3] == "CA"]
    assert len(kept) < len(lines)
    crystal.write_text("\n".join(kept) + "\n")
    prepared, records = made(crystal, tmp_path / "out")
    assert list(records) == ["1abc_h_l_l_l"]
    rule = "a chain with Cα only: no residue has N, CA and C"
    assert prepared.corpus.manifest["dropped"][rule] == 1
    _, records = made(crystal, tmp_path / "out2", region="fv")
    assert list(records) == ["1abc_H_L", "1abc_h_l_l_l"]


def packed(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_messages_name_the_archive_and_not_where_it_was_unpacked(tmp_path):
    one = write_pdb(tmp_path / "one.pdb", {"A": ("MKTAYIAK", line_of(8))}).read_bytes()
    source = packed(tmp_path / "in.tar.gz", {"a/one.pdb": one, "a/none.pdb": b""})
    prepared, _ = made(source, tmp_path / "out")
    assert prepared.corpus.manifest["examples"]["a file that cannot be read"] == [
        f"{source}: a/none.pdb is empty"
    ]
    for members, says in (
        ({"a/one.pdb": one, "b/one.pdb": one}, "in.tar.gz has structure 'one' twice"),
        ({"a.txt": one}, "in.tar.gz has no structure file"),
        ({"a": one, "a/one.pdb": one}, "in.tar.gz is damaged"),
    ):
        packed(source, members)
        with pytest.raises((DataError, ModelError), match=says):
            made(source, tmp_path / "other")


def test_tables_keep_labels_groups_and_rows(tmp_path):
    import pyarrow as pa

    path = tmp_path / "set.parquet"
    with BackboneWriter(path, {"topology": pa.string(), "n": pa.int64()}) as writer:
        for number in range(8):
            places = np.zeros((4 + number, 4, 3)) + number
            one = Backbone(
                f"d{number}", "MKTAYIAKQRQ"[: 4 + number], places, np.zeros(4 + number, int), ("A",)
            )
            writer.add(one, {"topology": f"3.{number % 3}", "n": number})
    prepared = prepare_structures(
        path, tmp_path / "out", settings=StructureSettings(group=("topology",)), holdout=0.4, seed=3
    )
    corpus = prepared.corpus
    assert [corpus.record(row).group for row in range(8)] == [f"3.{number % 3}" for number in range(8)]
    assert corpus.record(5).labels == {"topology": "3.2", "n": 5}
    sizes = corpus.manifest["subsets"]
    assert sum(sizes.values()) == 8
    for name in sizes:
        part, backbones = Corpus(f"{tmp_path / 'out'}:{name}"), open_backbones(f"{tmp_path / 'out'}:{name}")
        assert [part.record(row).id for row in range(len(part))] == list(backbones.ids)
        assert backbones.labels["topology"].to_list() == part.column("group")
    with pytest.raises(DataError, match="--group-by fold: there is no such label"):
        prepare_structures(path, tmp_path / "o", settings=StructureSettings(group=("fold",)))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("zero", "group"), [(0, "0"), (0.0, "0.0")])
def test_a_group_of_the_number_0_stays_together_and_not_a_number_is_none(tmp_path, zero, group):
    import pyarrow as pa

    path = tmp_path / "set.parquet"
    with BackboneWriter(path, {"fold": pa.float64() if group == "0.0" else pa.int64()}) as writer:
        for number in range(12):
            one = Backbone(f"d{number}", "MKTA", np.zeros((4, 4, 3)) + number, np.zeros(4, int), ("A",))
            other = float("nan") if group == "0.0" else None
            writer.add(one, {"fold": zero if number < 8 else other})
    prepared = prepare_structures(
        path, tmp_path / "out", settings=StructureSettings(group=("fold",)), holdout=0.5, seed=0
    )
    assert prepared.corpus.column("group") == [group] * 8 + [""] * 4
    sides = [set(Corpus(f"{tmp_path / 'out'}:{side}").column("group")) for side in ("train", "holdout")]
    assert sum(group in side for side in sides) == 1


def test_a_corpus_that_was_changed_is_refused(tmp_path):
    write_pdb(tmp_path / "a.pdb", {"A": ("MKTAYIAK", line_of(8))})
    write_pdb(tmp_path / "b.pdb", {"A": ("GSWFYVVL", line_of(8))})
    made(tmp_path, tmp_path / "out")
    path = tmp_path / "out" / BACKBONES
    whole = open_backbones(path)
    swapped = [Backbone(one.id, other.residues, other.coordinates, other.chain_index, ("A",))
               for one, other in zip(whole, reversed(list(whole)), strict=True)]  # fmt: skip
    with BackboneWriter(path) as writer:
        for each in swapped:
            writer.add(each)
    with pytest.raises(DataError, match=r"has the hash .*, expected"):
        open_backbones(tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    from protlm.runs import file_hash

    manifest["backbones"]["sha256"] = file_hash(path)
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="record 'a' of out is not the sequence in"):
        open_backbones(tmp_path / "out")


def test_settings_that_contradict_and_sources_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match="unknown region 'fw'"):
        made(tmp_path, tmp_path / "out", region="fw")
    with pytest.raises(ConfigError, match="--region fv needs variable domains"):
        made(tmp_path, tmp_path / "out", region="fv", is_numbered=False)
    with pytest.raises(DataError, match="no such file or folder"):
        made(tmp_path / "x", tmp_path / "out")
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="has no structure file"):
        made(tmp_path / "in", tmp_path / "out")
    write_pdb(tmp_path / "in" / "a.pdb", {"A": ("MKTAYIAK", line_of(8))})
    with pytest.raises(DataError, match="no record is left; 1 dropped: no variable domain of an antibody"):
        made(tmp_path / "in", tmp_path / "out", region="fv")
    assert not list(tmp_path.glob("out*"))


def test_the_command_line(tmp_path, crystal):
    run = CliRunner().invoke(
        app, ["prepare", str(crystal.parent), "--structures", "--region", "fv", "--out", str(tmp_path / "c")]
    )
    assert run.exit_code == 0, run.output
    assert len(open_backbones(tmp_path / "c")) == 2
    run = CliRunner().invoke(app, ["prepare", str(crystal), "--region", "fv", "--out", str(tmp_path / "d")])
    assert run.exit_code == 1
    assert isinstance(run.exception, ConfigError)
    assert run.exception.hint == "add --structures"
    shown = " ".join(CliRunner().invoke(app, ["prepare", "--help"]).output.replace("│", " ").split())
    assert "or what --structures, --sequences, --pairs or --wild-type say" in shown
    from protlm.cli.structure_options import REGION_NAMES
    from protlm.data.structure_regions import REGIONS

    assert REGION_NAMES == REGIONS


@pytest.mark.slow
def test_a_complex_of_ten_thousand_residues(tmp_path):
    chains = {}
    for number in range(10):
        letters = ("MKTAYIAKQR" * 100)[number:] + "G" * number
        chains[f"c{number}"] = (letters, [(x, y, 9.0 * number) for x, y, _ in folded(1000)])
    (tmp_path / "big.cif").write_text(cif_text(chains, atoms=("N", "CA", "C")))
    prepared, records = made(tmp_path / "big.cif", tmp_path / "out")
    assert {name: letters for name, (letters, _) in chains.items()} == records["big"]
    assert prepared.corpus.manifest["num_residues"] == 10_000


@pytest.mark.real_data
def test_all_benchmark_antibodies_are_read(tmp_path, shared_data):
    """Sequences against the shared table of their chains, which others made."""
    import polars as pl

    folder = shared_data / "structures" / "antibody_antigen"
    prepared, records = made(folder / "pdbs.tar.gz", tmp_path / "out", is_numbered=False)
    assert len(records) == 76
    assert prepared.corpus.manifest["dropped"] == {}
    table = pl.read_parquet(folder / "antibody_chains_backbone.parquet").filter(pl.col("state") == "bound")
    assert len(table) > 30
    backbones = {each.id: each for each in open_backbones(tmp_path / "out")}
    beyond = 0
    for row in table.iter_rows(named=True):
        chain = backbones[f"{row['case']}_r_b"].chain(row["chain"])
        letters = dict(zip(chain.residue_ids, chain.residues, strict=True))
        ids = row["residue_ids"].split(",")
        assert "".join(letters[each] for each in ids) == row["sequence"]
        beyond += len(chain) - len(ids)
    assert beyond <= 3  # modified residues, such as pyroglutamate at an end, which the table leaves out
