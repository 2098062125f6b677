"""Simulated pairs with couplings of stated mutual information: a positive control for training on pairs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from protlm.errors import DataError
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record

NUM_LETTERS = 8
"""Letters of a coupled site, equally frequent; its partner's follow from them one to one."""
MAXIMAL_INFORMATION = float(np.log(NUM_LETTERS))
"""Nats that a fully coupled site tells of its partner."""
INFORMATION = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Nats of the couplings that are planted where nothing else is asked for."""

_LETTERS = np.frombuffer(STANDARD.encode(), dtype=np.uint8)
_CONCENTRATION = 0.3  # of the Dirichlet that the residues of an uncoupled site are drawn from


@dataclass(frozen=True)
class Coupling:
    """Two sites, one of each chain, that tell of each other."""

    family: int
    """0-based."""
    first_index: int
    """Site of the first chain, 0-based."""
    second_index: int
    """Site of the second chain, 0-based."""
    information: float
    """Mutual information in nats."""


@dataclass(frozen=True)
class _Family:
    first: np.ndarray
    """Distribution of each site of the first chain, ``[length, 20]``."""
    second: np.ndarray
    couplings: tuple[Coupling, ...]
    letters: np.ndarray
    """Letters of each coupled site of both chains, partners in one column, ``[couplings, 2, letters]``."""


def agreement_for(information: float) -> float:
    r"""Give how often two coupled sites agree.

    With :math:`k` letters and agreement :math:`p`, the other :math:`k - 1` letters share :math:`1 - p`, and

    .. math:: I = \ln k + p \ln p + (1 - p) \ln\frac{1 - p}{k - 1}.

    Parameters
    ----------
    information
        Nats, from 0 to `MAXIMAL_INFORMATION`.

    Raises
    ------
    DataError
        If it is out of these bounds.

    Examples
    --------
    >>> agreement_for(0.0), round(agreement_for(1.0), 3), agreement_for(MAXIMAL_INFORMATION)
    (0.125, 0.74, 1.0)
    """
    if not 0 <= information <= MAXIMAL_INFORMATION:
        raise DataError(
            f"a coupling of {information} nats cannot be made of {NUM_LETTERS} letters",
            hint=f"expected 0 to {MAXIMAL_INFORMATION:.3f}",
        )
    low, high = 1 / NUM_LETTERS, 1.0
    if information in (0.0, MAXIMAL_INFORMATION):
        return low if information == 0 else high
    for _ in range(60):  # the information rises with the agreement
        middle = (low + high) / 2
        low, high = (middle, high) if _information(middle) < information else (low, middle)
    return (low + high) / 2


def parse_information(text: str | None) -> tuple[float, ...]:
    """Read nats as written on a command line.

    Parameters
    ----------
    text
        Numbers with commas; `None` gives `INFORMATION`.

    Raises
    ------
    DataError
        If one is no number.
    """
    if text is None:
        return INFORMATION
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError as error:
        raise DataError(f"--information '{text}': {error}", hint="expected nats, such as 0,0.5,1") from None


def _information(agreement: float) -> float:
    rest = (1 - agreement) / (NUM_LETTERS - 1)
    return float(np.log(NUM_LETTERS) + agreement * np.log(agreement) + (1 - agreement) * np.log(rest))


def simulate_coupled_pairs(
    num_records: int,
    *,
    information: Sequence[float] = INFORMATION,
    sites_each: int = 2,
    num_families: int = 1,
    length: int = 48,
    seed: int = 0,
) -> tuple[list[Record], list[Coupling]]:
    """Simulate pairs of chains of which some sites tell of sites of the other chain, and nothing else does.

    A family has two chains of its own; its sites are independent but for the planted couplings, so the chains
    of a pair of one family share exactly the sum of these. A pair's chains are always of one family, which
    with several families is a further tie between them, of ln(families) nats in all.

    Parameters
    ----------
    num_records
        Pairs, spread evenly over the families.
    information
        Mutual information of each kind of coupling, in nats; 0 gives uncoupled sites that look like others.
    sites_each
        Couplings of each kind, in each family.
    num_families
        At least 1.
    length
        Residues of a chain; with several families from three quarters to five quarters of it.
    seed
        Of everything.

    Returns
    -------
    list of Record
        Named ``pair1`` and so on, in their own groups, with the label ``family``.
    list of Coupling
        The truth.

    Raises
    ------
    DataError
        If the couplings do not fit into a chain, or are no numbers of nats that can be.
    """
    rng = np.random.default_rng(seed)
    num_coupled = len(information) * sites_each
    lengths = rng.integers(length * 3 // 4, length * 5 // 4 + 1, (num_families, 2))
    if num_families == 1:
        lengths[:] = length
    if num_coupled > lengths.min():
        raise DataError(
            f"{num_coupled} coupled sites do not fit into a chain of {lengths.min()} residues",
            hint="make the chains longer, or the couplings fewer",
        )
    strengths = [each for each in information for _ in range(sites_each)]
    agreements = np.array([agreement_for(each) for each in strengths])
    families = [_draw_family(rng, number, lengths[number], strengths) for number in range(num_families)]
    records = []
    for number in range(num_records):
        family = families[number % num_families]
        first, second = _draw_pair(rng, family, agreements)
        chains = (Chain(first.tobytes().decode()), Chain(second.tobytes().decode()))
        name = f"pair{number + 1}"
        records.append(Record(name, chains, labels={"family": number % num_families}, group=name))
    return records, [coupling for family in families for coupling in family.couplings]


def _draw_family(
    rng: np.random.Generator, number: int, lengths: np.ndarray, strengths: Sequence[float]
) -> _Family:
    profiles = [rng.dirichlet(np.full(20, _CONCENTRATION), size=each) for each in lengths]
    sites = [rng.permutation(each)[: len(strengths)] for each in lengths]
    letters = np.array([[rng.permutation(20)[:NUM_LETTERS] for _ in range(2)] for _ in strengths])
    for place in range(len(strengths)):
        for chain in range(2):
            profiles[chain][sites[chain][place]] = 0
            profiles[chain][sites[chain][place], letters[place, chain]] = 1 / NUM_LETTERS
    couplings = tuple(
        Coupling(number, int(first), int(second), strength)
        for first, second, strength in zip(sites[0], sites[1], strengths, strict=True)
    )
    return _Family(profiles[0], profiles[1], couplings, letters)


def _draw_pair(
    rng: np.random.Generator, family: _Family, agreements: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    first, second = (_draw_sites(rng, each) for each in (family.first, family.second))
    if len(agreements):
        agrees = rng.random(len(agreements)) < agreements
        drawn = rng.integers(NUM_LETTERS, size=len(agreements))
        other = (drawn + rng.integers(1, NUM_LETTERS, size=len(agreements))) % NUM_LETTERS
        rows = np.arange(len(agreements))
        first[[each.first_index for each in family.couplings]] = family.letters[rows, 0, drawn]
        partner = np.where(agrees, drawn, other)
        second[[each.second_index for each in family.couplings]] = family.letters[rows, 1, partner]
    return _LETTERS[first], _LETTERS[second]


def _draw_sites(rng: np.random.Generator, profile: np.ndarray) -> np.ndarray:
    reached = np.cumsum(profile, axis=1) > rng.random(len(profile))[:, None]
    return np.where(reached.any(axis=1), reached.argmax(axis=1), profile.argmax(axis=1))


def pairs_frame(records: Iterable[Record]) -> pl.DataFrame:
    """Table simulated pairs: ``id, sequence_a, sequence_b, family``.

    Parameters
    ----------
    records
        From `simulate_coupled_pairs`.
    """
    rows = [(each.id, *(chain.residues for chain in each.chains), each.labels["family"]) for each in records]
    return pl.DataFrame(rows, schema=["id", "sequence_a", "sequence_b", "family"], orient="row")


def couplings_frame(couplings: Iterable[Coupling]) -> pl.DataFrame:
    """Table the truth: ``family, position_a, position_b`` (1-based) and ``information`` in nats.

    Parameters
    ----------
    couplings
        From `simulate_coupled_pairs`.
    """
    rows = [(c.family, c.first_index + 1, c.second_index + 1, c.information) for c in couplings]
    return pl.DataFrame(rows, schema=["family", "position_a", "position_b", "information"], orient="row")
