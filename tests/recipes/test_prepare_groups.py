"""The groups that prepare gives: the same for the same chains, whatever kind of file they come in."""

import numpy as np
import pytest

from fixtures.antibodies import VH, VL
from protlm.data.groups import default_group
from protlm.data.readers import ColumnNames
from protlm.recipes.prepare import prepare
from protlm.types.record import Chain, Record, Role

GROUP = "IGHV3-66|SRWGGDGFYAMDY"


@pytest.fixture
def groups(tmp_path):
    def groups(name, content, **options):
        source = tmp_path / name
        source.write_text(content)
        return prepare(source, tmp_path / f"{name}.corpus", **options).corpus.column("group")

    return groups


@pytest.mark.parametrize("germline", ["auto", "human"])
def test_a_chain_has_one_group_with_and_without_a_call_in_its_file(groups, germline):
    asked = {"germline": (germline,)}
    assert groups("x.fasta", f">a\n{VH}\n", **asked) == [GROUP]
    assert groups("x.csv", f"id,sequence,v_call\na,{VH},IGHV3-66*01\nb,{VH},\n", **asked) == [GROUP] * 2
    pairs = f"id,heavy,light,v_call_light\na,{VH},{VL},IGKV1-39*01\nb,{VH},{VL},\n"
    assert groups("y.csv", pairs, **asked) == [GROUP] * 2


def test_a_group_of_the_input_stays(groups):
    columns = ColumnNames(group=("donor",))
    content = f"id,sequence,donor\na,{VH},7\nb,{VH},\n"
    assert groups("x.csv", content, columns=columns) == ["7", GROUP]


def test_without_germline_genes_the_locus_stands_for_the_v_gene(groups):
    assert groups("x.fasta", f">a\n{VH}\n", germline=("none",)) == ["H|SRWGGDGFYAMDY"]


def test_the_heavy_chain_names_the_group_wherever_it_stands():
    cdr3 = {"region": np.array([6, 6], dtype=np.uint8)}
    light = Chain("QQ", role=Role.LIGHT, locus="K", v_call="IGKV1-39*01", tracks=cdr3)
    heavy = Chain("AR", role=Role.HEAVY, locus="H", v_call="IGHV3-66*01", tracks=cdr3)
    assert default_group(Record("a", (light, heavy))) == "IGHV3-66|AR"
    assert default_group(Record("a", (heavy, light))) == "IGHV3-66|AR"


def test_an_empty_holdout_is_said(tmp_path):
    source = tmp_path / "x.fasta"
    source.write_text(f">a\n{VH}\n>b\n{VH}\n")
    prepared = prepare(source, tmp_path / "corpus", holdout=0.01)
    assert list(prepared.corpus.manifest["subsets"]) == ["train"]
    assert any(line.startswith("EMPTY: no record fell into subset holdout") for line in prepared.lines())
