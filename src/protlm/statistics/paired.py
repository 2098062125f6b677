"""Paired t-tests over many regions, with Bonferroni's correction and stars."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from protlm.errors import DataError

_STAR_LEVELS = (0.05, 0.01, 0.001, 0.0001)


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The outcome of a two-sided paired t-test.

    Examples
    --------
    >>> PairedTest(statistic=0.0, p_value=1.0, mean_difference=0.0, n=5).n
    5
    """

    statistic: float
    """t; positive where the first mean is higher."""
    p_value: float
    """Two-sided, from 0 to 1."""
    mean_difference: float
    """Mean of first minus second, in the unit of the values."""
    n: int
    """Pairs used: those without NaN."""


def paired_t_test(first: npt.ArrayLike, second: npt.ArrayLike) -> PairedTest:
    """Give the two-sided paired t-test of first against second.

    Pairs where either value is NaN are left out. With one pair the statistic and p-value are NaN, with
    none the mean difference too. Where all differences are equal, the limits hold: all zero gives
    t = 0 and p = 1, otherwise t = ±inf and p = 0; look at `n` before believing that.

    Parameters
    ----------
    first
        One value per pair, shape (pairs,); NaN where missing.
    second
        The partners, in the same order.

    Returns
    -------
    PairedTest
        With n - 1 degrees of freedom.

    Raises
    ------
    DataError
        If the lengths differ, or a value is infinite or not a number.

    References
    ----------
    Student, Biometrika 6 (1908) 1. Ng and Briney, Patterns 2025, use it per region
    (``scipy.stats.ttest_rel``).

    Examples
    --------
    Differences 1, 2, 3: mean 2, standard error 1/√3.

    >>> test = paired_t_test([2, 4, 6], [1, 2, 3])
    >>> round(test.statistic, 4), round(test.p_value, 4), test.mean_difference, test.n
    (3.4641, 0.0742, 2.0, 3)
    """
    differences = _differences(first, second)
    n = len(differences)
    if n == 0:
        return PairedTest(math.nan, math.nan, math.nan, 0)
    mean = float(differences.mean())
    if n == 1:
        return PairedTest(math.nan, math.nan, mean, 1)
    if (differences == differences[0]).all():
        mean = float(differences[0])
        return PairedTest(math.copysign(math.inf, mean) if mean else 0.0, 0.0 if mean else 1.0, mean, n)
    statistic = mean / (float(differences.std(ddof=1)) / math.sqrt(n))
    return PairedTest(statistic, float(2 * student.sf(abs(statistic), n - 1)), mean, n)


def bonferroni(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Give the p-values times the number of tests, at most 1.

    The number of tests is the number of p-values that are not NaN: a region that could not be
    tested costs the others nothing. Ng and Briney divide the levels by 14 always; with all 14 regions
    tested the two are the same.

    Parameters
    ----------
    p_values
        From 0 to 1, any shape; NaN where there was no test.

    Returns
    -------
    numpy.ndarray
        float64, the shape of `p_values`, NaN kept.

    Raises
    ------
    DataError
        If a value is below 0, above 1 or not a number.

    References
    ----------
    Dunn, J. Am. Stat. Assoc. 56 (1961) 52.

    Examples
    --------
    >>> bonferroni([0.01, float("nan"), 0.6])
    array([0.02,  nan, 1.  ])
    """
    values = _numbers("p_values", p_values)
    wrong = values[(values < 0) | (values > 1)]
    if wrong.size:
        raise DataError(f"p_values: expected 0 to 1, found {wrong.flat[0]:g}")
    return np.minimum(values * np.count_nonzero(~np.isnan(values)), 1.0)


def stars(p_adjusted: float) -> str:
    """Give one star for each of the levels 0.05, 0.01, 0.001 and 0.0001 that p is below.

    Parameters
    ----------
    p_adjusted
        From 0 to 1, already corrected for the number of tests; NaN where there was no test.

    Returns
    -------
    str
        None to four stars; none for NaN.

    Raises
    ------
    DataError
        If `p_adjusted` is below 0 or above 1.

    Examples
    --------
    >>> stars(0.004), stars(0.05)
    ('**', '')
    """
    if p_adjusted < 0 or p_adjusted > 1:
        raise DataError(f"p_adjusted: expected 0 to 1, found {p_adjusted:g}")
    return "*" * sum(p_adjusted < level for level in _STAR_LEVELS)


def _differences(first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.float64]:
    left, right = _numbers("first", first), _numbers("second", second)
    if left.ndim != 1 or left.shape != right.shape:
        raise DataError(
            f"first has shape {left.shape}, second {right.shape}",
            hint="give one value per pair in both, in the same order",
        )
    for name, values in (("first", left), ("second", right)):
        count = int(np.isinf(values).sum())
        if count:
            raise DataError(f"{name}: {count} of {values.size} values infinite", hint="mark missing as NaN")
    differences = left - right
    return differences[~np.isnan(differences)]


def _numbers(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: expected numbers ({error})") from error
