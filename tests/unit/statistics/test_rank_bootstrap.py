import math

import numpy as np
import pytest

from protlm.errors import ConfigError, DataError
from protlm.statistics.bootstrap import bootstrap_metric
from protlm.statistics.metrics import spearman
from protlm.statistics.rank_bootstrap import bootstrap_spearman


@pytest.mark.parametrize("num_values", [3, 10, 1000])
def test_it_is_the_plain_bootstrap_of_spearman(num_values):
    rng = np.random.default_rng(1)
    scores = rng.integers(num_values, size=60) / 4
    target = scores + rng.integers(num_values, size=60)
    expected = bootstrap_metric(spearman, scores, target, num_draws=200, seed=3)
    found = bootstrap_spearman(scores, target, num_draws=200, seed=3)
    assert found.n == 60
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high), abs=1e-12
    )
    assert found.low < found.value < found.high


def test_what_is_undefined_is_nan():
    constant = bootstrap_spearman([1, 1, 1], [1, 2, 3], num_draws=20)
    assert all(math.isnan(value) for value in (constant.value, constant.low, constant.high))
    assert math.isnan(bootstrap_spearman([1.0], [2.0], num_draws=20).low)


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="scores"):
        bootstrap_spearman([1, math.nan], [1, 2])
    with pytest.raises(DataError):
        bootstrap_spearman([1, 2, 3], [1, 2])
    with pytest.raises(ConfigError, match="num_draws"):
        bootstrap_spearman([1, 2], [1, 2], num_draws=0)
