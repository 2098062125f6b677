"""Few-example ways to find an interface: one head, a regression over heads, and baselines without a model.

Whatever is chosen or fitted is so on some complexes and judged on others whose antigens are not alike.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from protlm.data.flat import record_key
from protlm.data.hashing import combine, uniform
from protlm.errors import DataError
from protlm.explain.complexes import Complex
from protlm.explain.contact_metrics import ANTIBODY, ANTIGEN, PAIRS, truth_of
from protlm.types.alphabet import STANDARD

RANDOM = "random"
POSITION, AMINO_ACIDS, CDRS, CDRS_AMINO_ACIDS = "position", "amino acids", "CDRs", "CDRs and amino acids"
BASELINES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    RANDOM: {PAIRS: (), ANTIBODY: (), ANTIGEN: ()},
    POSITION: {
        PAIRS: ("antibody place", "antigen place"),
        ANTIBODY: ("antibody place",),
        ANTIGEN: ("antigen place",),
    },
    AMINO_ACIDS: {PAIRS: ("letters",), ANTIBODY: ("antibody letter",), ANTIGEN: ("antigen letter",)},
    CDRS: {PAIRS: ("cdr",), ANTIBODY: ("cdr",)},
    CDRS_AMINO_ACIDS: {PAIRS: ("cdr", "letters"), ANTIBODY: ("cdr", "antibody letter")},
}
"""By baseline and level, the categories whose log-odds among the training complexes are added up."""

_L1_STRENGTH = 0.15
_NEGATIVES = 20
"""Pairs out of contact that the regression sees for each one in contact."""
_PSEUDO = 5.0
_BINS = 10
_SPLIT, _NEGATIVE, _RANDOM, _PARTNER = 511, 512, 513, 514
"""Streams of random numbers."""


@dataclass(frozen=True)
class HeadSplit:
    """Which complexes something is fitted on, and which it is judged on; indices, int64."""

    train: np.ndarray
    test: np.ndarray


def head_splits(
    complexes: Sequence[Complex], groups: np.ndarray, *, num_training: int, num_repeats: int, seed: int
) -> list[HeadSplit]:
    """Draw few complexes to fit on and judge on the others, both ways, several times.

    Groups are put in random order; the first ones, until there are `num_training` complexes, are one training
    set, and the last ones another.

    Parameters
    ----------
    complexes
        All.
    groups
        From `antigen_groups`; none is on both sides.
    num_training
        Complexes to fit on, or a few more where a group has several.
    num_repeats
        Orders, each of which gives two splits.
    seed
        Of the orders.

    Raises
    ------
    DataError
        If nothing would be left to judge on.
    """
    keys = np.array([record_key(one.record) for one in complexes], dtype=np.uint64)
    names = np.unique(groups)
    key_of = np.array([keys[groups == name].min() for name in names], dtype=np.uint64)
    splits = []
    for repeat in range(num_repeats):
        order = names[np.argsort(combine(seed, _SPLIT, repeat, key_of), kind="stable")]
        for way in (order, order[::-1]):
            sizes = np.cumsum([(groups == name).sum() for name in way])
            is_train = np.isin(groups, way[: 1 + int(np.searchsorted(sizes, num_training))])
            if is_train.all():
                raise DataError(
                    f"fitting on {num_training} of {len(complexes)} complexes leaves none with another "
                    "antigen to judge on",
                    hint="lower --shots, or give more complexes",
                )
            splits.append(HeadSplit(np.flatnonzero(is_train), np.flatnonzero(~is_train)))
    return splits


def draw_partners(
    complexes: Sequence[Complex], groups: np.ndarray, fits: np.ndarray, *, seed: int
) -> np.ndarray:
    """Give each antibody the antigen of a complex with another one; no antigen is given twice.

    Parameters
    ----------
    complexes
        All.
    groups
        From `antigen_groups`.
    fits
        Whether antibody i and antigen j together are short enough, bool ``[n, n]``.
    seed
        Of the draw, which does not depend on the order of the complexes.

    Returns
    -------
    numpy.ndarray
        Index of the complex whose antigen it is, -1 where there is none; as few as can be. int64 ``[n]``.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    keys = np.array([record_key(one.record) for one in complexes], dtype=np.uint64)
    rows, columns = (np.argsort(combine(seed, _PARTNER, side, keys), kind="stable") for side in (0, 1))
    allowed = (groups[:, None] != groups) & fits
    found = maximum_bipartite_matching(csr_array(allowed[rows][:, columns]), perm_type="column")
    partners = np.full(len(complexes), -1, dtype=np.int64)
    partners[rows[found >= 0]] = columns[found[found >= 0]]
    return partners


def best_head(areas: np.ndarray, train: np.ndarray) -> int:
    """Give the head of the highest mean area on the training complexes, 0-based.

    Parameters
    ----------
    areas
        ``[complexes, heads]``; NaN where undefined.
    train
        Indices.
    """
    return int(np.nanmean(areas[train], axis=0).argmax())


def sample_items(one: Complex, level: str, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose what a regression is fitted on: all true items, and some or all of the others.

    Parameters
    ----------
    one
        A complex.
    level
        Of pairs, at most 20 false ones for each true one are drawn; residues are all taken.
    seed
        Of the draw.

    Returns
    -------
    items : numpy.ndarray
        Indices into the items of the level, ascending, int64.
    labels : numpy.ndarray
        bool.
    """
    truth = truth_of(one, level)
    items = np.flatnonzero(truth.is_judged)
    labels = truth.labels
    if level == PAIRS:
        draws = combine(seed, _NEGATIVE, record_key(one.record), items)
        draws[labels] = 0
        kept = np.sort(np.argsort(draws, kind="stable")[: int(labels.sum()) * (1 + _NEGATIVES)])
        items, labels = items[kept], labels[kept]
    return items, labels


def fit_heads(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Fit a logistic regression with an L1 penalty over heads and give a weight for each.

    Parameters
    ----------
    features
        Attention of each head, ``[items, heads]``.
    labels
        bool ``[items]``.

    Returns
    -------
    numpy.ndarray
        float32 ``[heads]``; a higher weighted sum means more likely in contact. No intercept, because only
        the order counts.

    Notes
    -----
    DISCREPANCY: Rao et al. fit raw attention; here each head is divided by its standard deviation first,
    without which the penalty would remove all heads of long complexes, whose attention is spread thin.

    References
    ----------
    Rao et al. 2021, ICLR, "Transformer protein language models are unsupervised structure learners": 20
    proteins, C = 0.15.
    """
    if labels.all() or not labels.any():
        raise DataError("the training complexes have no residues of both kinds", hint="raise --shots")
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    model = LogisticRegression(l1_ratio=1.0, C=_L1_STRENGTH, solver="liblinear", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((features - centre) / scale, labels)
    return (model.coef_[0] / scale).astype(np.float32)


def baseline_scores(
    name: str, level: str, complexes: Sequence[Complex], split: HeadSplit, *, seed: int
) -> dict[int, np.ndarray]:
    """Fit a baseline on the training complexes and score the others.

    Parameters
    ----------
    name
        In `BASELINES`.
    level
        One that the baseline has.
    complexes
        All.
    split
        Which to fit on and to score.
    seed
        Of the random scores.

    Returns
    -------
    dict
        By index of the complex, ``[1, n]``.
    """
    if name == RANDOM:
        return {
            index: uniform(
                combine(
                    seed,
                    _RANDOM,
                    record_key(complexes[index].record),
                    np.arange(_size(complexes[index], level)),
                )
            )[None]
            for index in split.test.tolist()
        }
    scores = {index: np.zeros((1, _size(complexes[index], level))) for index in split.test.tolist()}
    for feature in BASELINES[name][level]:
        odds = _log_odds([complexes[index] for index in split.train.tolist()], level, feature)
        for index in scores:
            scores[index] += odds[_categories(complexes[index], level, feature)]
    return scores


def _size(one: Complex, level: str) -> int:
    return len(truth_of(one, level).is_judged)


def _log_odds(complexes: Sequence[Complex], level: str, feature: str) -> np.ndarray:
    """Give, for each category, how much more often it is true than any item is; near 0 where it is rare."""
    true, expected = np.zeros(2048), np.zeros(2048)
    for one in complexes:
        truth = truth_of(one, level)
        categories = _categories(one, level, feature)[truth.is_judged]
        true += np.bincount(categories[truth.labels], minlength=len(true))
        expected += np.bincount(categories, minlength=len(true)) * truth.base_rate
    return np.log((true + _PSEUDO) / (expected + _PSEUDO))


def _categories(one: Complex, level: str, feature: str) -> np.ndarray:
    """Number what an item is; int64 ``[n]``."""
    rows, columns = one.contacts.shape
    if feature == "letters":
        antibody, antigen = (_letters(one, of_antibody=each) for each in (True, False))
        return (antibody[:, None] * (len(STANDARD) + 1) + antigen).ravel()
    if feature == "cdr":
        of_antibody, values = True, one.is_cdr.astype(np.int64)
    else:
        of_antibody = feature.startswith("antibody")
        read = _letters if feature.endswith("letter") else _places
        values = read(one, of_antibody=of_antibody)
    if level != PAIRS:
        return values
    return np.repeat(values, columns) if of_antibody else np.tile(values, rows)


def _letters(one: Complex, *, of_antibody: bool) -> np.ndarray:
    """Number the letters in the order of `STANDARD`; any other is one more."""
    table = np.full(256, len(STANDARD), dtype=np.int64)
    table[np.frombuffer(STANDARD.encode(), np.uint8)] = np.arange(len(STANDARD))
    chains = one.antibody if of_antibody else one.antigen
    return table[np.frombuffer("".join(chain.residues for chain in chains).encode(), np.uint8)]


def _places(one: Complex, *, of_antibody: bool) -> np.ndarray:
    """Number tenths of the chain that residues are in, apart for heavy and light chains."""
    chains = one.antibody if of_antibody else one.antigen
    return np.concatenate(
        [np.arange(len(chain)) * _BINS // len(chain) + _BINS * int(chain.role) for chain in chains]
    )
