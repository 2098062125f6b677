"""What `contrast` takes for alike, and settings that leave nothing to learn."""

import numpy as np
import pyarrow as pa
import pytest

from protlm.data.backbone_tables import BackboneWriter
from protlm.errors import ConfigError
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
