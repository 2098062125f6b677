import numpy as np
import pytest

from protlm.data.simulate_couplings import (
    MAXIMAL_INFORMATION,
    agreement_for,
    parse_information,
    simulate_coupled_pairs,
)
from protlm.errors import DataError


def mutual_information(first: list[str], second: list[str]) -> float:
    """The plug-in estimate in nats, from counts alone."""
    letters = "ACDEFGHIKLMNPQRSTVWY"
    counts = np.zeros((20, 20))
    for one, two in zip(first, second, strict=True):
        counts[letters.index(one), letters.index(two)] += 1
    joint = counts / counts.sum()
    outer = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / outer[seen])).sum())


def test_planted_sites_share_what_was_asked_for_and_others_nothing():
    records, couplings = simulate_coupled_pairs(6000, information=(0.0, 0.2, 1.0), sites_each=1, length=8)
    for coupling in couplings:
        first = [record.chains[0].residues[coupling.first_index] for record in records]
        second = [record.chains[1].residues[coupling.second_index] for record in records]
        # the plug-in estimate is too high by (k - 1)² / 2n = 0.004
        assert mutual_information(first, second) == pytest.approx(coupling.information + 0.004, abs=0.03)
    taken = {coupling.first_index for coupling in couplings}
    free = next(index for index in range(8) if index not in taken)
    first = [record.chains[0].residues[free] for record in records]
    second = [record.chains[1].residues[couplings[2].second_index] for record in records]
    assert mutual_information(first, second) < 0.03


def test_families_have_chains_and_couplings_of_their_own():
    records, couplings = simulate_coupled_pairs(6, num_families=3, information=(1.0,), sites_each=2, seed=3)
    assert [record.labels["family"] for record in records] == [0, 1, 2, 0, 1, 2]
    lengths = [tuple(len(chain) for chain in record.chains) for record in records]
    assert lengths[:3] == lengths[3:]
    assert len(set(lengths[:3])) > 1
    assert [coupling.family for coupling in couplings] == [0, 0, 1, 1, 2, 2]


def test_the_same_seed_gives_the_same_pairs():
    one, two, other = (simulate_coupled_pairs(3, seed=seed)[0] for seed in (1, 1, 2))
    assert one == two != other


@pytest.mark.parametrize("information", [0.01, 0.7, 2.0])
def test_agreement_inverts_the_formula(information: float):
    agreement = agreement_for(information)
    others = [(1 - agreement) / 7] * 7
    entropy = -sum(p * np.log(p) for p in [agreement, *others])
    assert np.log(8) - entropy == pytest.approx(information, abs=1e-9)


def test_impossible_wishes_are_refused():
    with pytest.raises(DataError, match=r"3\.0 nats"):
        agreement_for(3.0)
    with pytest.raises(DataError, match="do not fit into a chain of 5"):
        simulate_coupled_pairs(1, length=5)
    with pytest.raises(DataError, match="x"):
        parse_information("1,x")
    assert agreement_for(MAXIMAL_INFORMATION) == 1
