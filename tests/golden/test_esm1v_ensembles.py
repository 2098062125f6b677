"""The three ensembles of the five published ESM-1v columns on BLAT_ECOLX_Ranganathan2015.

The columns are unmasked marginals from facebookresearch/esm, `examples/variant-prediction/data`; the figures
were computed from that file before this code was written.
"""

import polars as pl
import pytest

from protlm.scoring.ensembles import combine
from protlm.statistics.metrics import spearman

pytestmark = pytest.mark.real_data

SEEDS = [f"esm1v_t33_650M_UR90_{number}" for number in range(1, 6)]
ALONE = [0.661930, 0.663150, 0.644889, 0.686478, 0.706432]
TOGETHER = {"mean": 0.702581, "z": 0.702002, "rank": 0.702999}


@pytest.fixture(scope="module")
def assay(shared_data):
    path = shared_data / "dms" / "BLAT_ECOLX_Ranganathan2015.tsv.gz"
    return pl.read_csv(path, separator="\t")


def test_each_seed_alone(assay):
    found = [spearman(assay[name], assay["score"]) for name in SEEDS]
    assert len(assay) == 4996
    assert found == pytest.approx(ALONE, abs=5e-7)


@pytest.mark.parametrize("way", TOGETHER)
def test_the_five_together(assay, way):
    columns = assay.select(SEEDS).to_numpy().T
    result = combine(columns, way, names=SEEDS)
    assert spearman(result.scores, assay["score"]) == pytest.approx(TOGETHER[way], abs=5e-7)
    assert result.notes == []
