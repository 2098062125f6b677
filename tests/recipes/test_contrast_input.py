"""What `contrast` takes for alike, and settings that leave nothing to learn."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from protlm.data.backbone_tables import BackboneWriter
from protlm.errors import ConfigError, DataError
from protlm.recipes.contrast_config import ContrastConfig, PairData
from protlm.recipes.contrast_data import read_pairs
from protlm.types.structure import Backbone


def test_rows_without_a_number_are_no_group_and_those_of_0_are_one(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "set.parquet"
    with BackboneWriter(path, {"fold": pa.float64()}) as writer:
        for number, fold in enumerate([0.0] * 6 + [float("nan")] * 3 + [None] * 3):
            letters = "".join(random.choice(list("ACDEFGHIKL"), 30))
            atoms = random.normal(size=(30, 4, 3))
            writer.add(Backbone(f"d{number}", letters, atoms, np.zeros(30, int), ("A",)), {"fold": fold})
    clusters = read_pairs(PairData(structures=str(path), group="fold")).pairs.clusters
    assert len(set(clusters[:6])) == 1
    assert len(set(clusters)) == 7


def test_one_pair_in_a_step_is_refused():
    with pytest.raises(ConfigError, match="step_records 1 leaves nothing to tell apart"):
        ContrastConfig.load(
            None,
            [
                "data.structures=x.parquet",
                "data.group=fold",
                "sequence.model=x",
                "training.step_records=1",
            ],
        )


def labelled(path, folds, *, resolved=lambda number: slice(None), length=30):
    """Write a structure for each label; what is not in `resolved` of it has no coordinates."""
    random = np.random.default_rng(0)
    with BackboneWriter(path, {"fold": pa.string()}) as writer:
        for number, fold in enumerate(folds):
            letters = "".join(random.choice(list("ACDEFGHIKL"), length))
            atoms = np.full((length, 4, 3), np.nan)
            atoms[resolved(number)] = random.normal(size=(length, 4, 3))[resolved(number)]
            writer.add(Backbone(f"d{number}", letters, atoms, np.zeros(length, int), ("A",)), {"fold": fold})
    return str(path)


def test_a_column_without_values_is_said(tmp_path):
    path = labelled(tmp_path / "set.parquet", [None, "", ""] + ["a"] * 2 + ["b"] * 3)
    divided = read_pairs(PairData(structures=path, group="fold"))
    assert len(set(divided.pairs.clusters)) == 5
    assert divided.lines()[-1] == "3 of 8 pairs have no value in 'fold': each is alone"


def test_too_few_groups_are_named_with_what_to_set(tmp_path):
    path = labelled(tmp_path / "set.parquet", ["a"] * 5 + ["b"] * 5)
    with pytest.raises(DataError, match=r"10 pairs make 2 groups by data\.group 'fold', too few") as caught:
        read_pairs(PairData(structures=path, group="fold"))
    assert "data.tested" in caught.value.hint


def test_windows_with_little_resolved_are_neither_drawn_nor_taken(tmp_path):
    # 0: both ends of 100 resolved, so that no window of 60 has 30; others: the last 40 alone
    ends = np.r_[0:15, 85:100]
    path = labelled(
        tmp_path / "set.parquet",
        ["a", "b", "c", "d"],
        resolved=lambda number: ends if number == 0 else slice(60, None),
        length=100,
    )
    divided = read_pairs(PairData(structures=path, group="fold", crop_residues=60))
    assert "left out: 1 without a window of 60 residues that is half resolved" in divided.lines()
    pairs = divided.pairs
    assert [each.id for each in pairs.backbones] == ["d1", "d2", "d3"]
    starts = set()
    for epoch in range(200):
        record, window = pairs.pair(0, 60, seed=0, epoch=epoch)
        assert window.is_resolved.sum() >= 30
        assert record.chains[0].residues == window.residues
        starts.add(pairs.backbones[0].residues.index(window.residues))
    assert min(starts) == 30
    assert max(starts) == 40


def test_sequences_are_known_by_a_hash_that_any_program_can_make(tmp_path):
    path = labelled(tmp_path / "set.parquet", ["a", "b", "c"])
    divided = read_pairs(PairData(structures=path, group="fold"))
    expected = [hashlib.sha256(each.residues.encode()).hexdigest()[:32] for each in divided.pairs.backbones]
    assert divided.table()["sequence_digest"].to_list() == expected
