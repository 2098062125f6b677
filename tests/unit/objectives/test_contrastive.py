"""InfoNCE against plain loops over anchors and candidates."""

import math

import numpy as np
import pytest
import torch

from protlm.objectives.contrastive import Contrastive

SCALE = 3.0
CLUSTERS = [0, 1, 0, 2, 1, 0]


def views(count=6, width=5, seed=0):
    random = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(count, width, generator=random, dtype=torch.float32) for _ in range(2))
    return tuple(torch.nn.functional.normalize(each, dim=-1) for each in drawn)


def by_hand(first, second, kind):
    """Loop over both directions, anchors and candidates."""
    total = 0.0
    for one, other in ((first, second), (second, first)):
        for i in range(len(one)):
            scores = [SCALE * float(one[i] @ other[j]) for j in range(len(other))]
            alike = [j for j in range(len(other)) if CLUSTERS[j] == CLUSTERS[i]]
            positives = alike if kind == "positive" else [i]
            left_out = [j for j in alike if j != i] if kind == "ignore" else []
            below = sum(math.exp(score) for j, score in enumerate(scores) if j not in left_out)
            total += 0.5 * sum(math.log(below) - scores[p] for p in positives) / len(positives)
    return total


@pytest.mark.parametrize("kind", ["positive", "ignore", "negative"])
def test_is_the_sum_over_anchors_of_both_sides(kind):
    first, second = views()
    output = Contrastive(kind)(first, second, torch.tensor(SCALE), torch.tensor(CLUSTERS))
    assert float(output.loss) == pytest.approx(by_hand(first, second, kind), rel=1e-5)
    assert output.count == 6


def test_kinds_differ_where_clusters_have_several_items_and_agree_where_not():
    first, second = views()
    found = [
        float(Contrastive(kind)(first, second, torch.tensor(SCALE), clusters).loss)
        for clusters in (torch.tensor(CLUSTERS), torch.arange(6))
        for kind in ("positive", "ignore", "negative")
    ]
    assert len({round(value, 4) for value in found[:3]}) == 3
    assert found[3:] == pytest.approx([found[3]] * 3, rel=1e-6)


def test_anchors_of_two_halves_add_up_to_the_whole():
    first, second = views()
    objective, clusters = Contrastive(), torch.tensor(CLUSTERS)
    whole = objective(first, second, torch.tensor(SCALE), clusters)
    halves = [
        objective(first, second, torch.tensor(SCALE), clusters, anchors=torch.tensor(rows))
        for rows in ([0, 1, 2], [3, 4, 5])
    ]
    assert sum(float(each.loss) for each in halves) == pytest.approx(float(whole.loss), rel=1e-6)
    assert sum(each.count for each in halves) == whole.count


def test_counts_how_often_the_own_partner_is_nearest():
    first = torch.eye(3)
    second = torch.eye(3)[[0, 2, 1]]
    output = Contrastive("negative")(first, second, torch.tensor(1.0))
    assert output.parts["sequence_to_structure"] == (1.0, 3)


def test_a_uniform_space_has_the_loss_of_chance():
    same = torch.nn.functional.normalize(torch.ones(7, 4), dim=-1)
    output = Contrastive("negative")(same, same, torch.tensor(5.0))
    assert float(output.loss) / 7 == pytest.approx(np.log(7), rel=1e-6)
