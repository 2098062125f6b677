"""Labels by side, near training chains, and the window baseline."""

import numpy as np
import pytest

from protlm.data.corpus import write_corpus
from protlm.evaluation.leakage import near_training
from protlm.evaluation.split_leakage import balance_line, label_balance
from protlm.evaluation.window_baseline import window_baseline
from protlm.types.record import Chain, Record
from protlm.types.target import UNLABELLED, LabelledRecords, Target

LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def protein(seed: int, length: int = 80) -> str:
    return "".join(np.random.default_rng(seed).choice(LETTERS, length))


def test_labels_are_balanced_by_side_and_by_fold():
    target = Target("classes", "sequence", ("a", "b"))
    labels, folds = np.array([0, 0, 0, 1, 1, 1, 1, 0]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    sides = label_balance(target, labels, folds, [1])
    assert sides == {"training": {"a": 0.75, "b": 0.25}, "test": {"a": 0.25, "b": 0.75}}
    assert balance_line("classes", sides) == "labels, training/test: a 75/25 %, b 25/75 %"
    both = label_balance(target, labels, folds, [0, 1])
    assert balance_line("classes", both) == "labels by fold: a 25 to 75 %, b 25 to 75 %"
    value = label_balance(Target("value", "sequence"), labels + 0.5, folds, [1])
    assert value["training"]["median"] == 0.5
    assert "test median 1.5" in balance_line("value", value)


def test_training_chains_are_searched_up_to_a_number(tmp_path):
    known = protein(1)
    near = known[:40] + ("A" if known[40] != "A" else "C") + known[41:]
    corpus = write_corpus(tmp_path / "c", [Record("k", (Chain(known),)), Record("l", (Chain(protein(2)),))])
    records = [Record("x", (Chain(near),)), Record("y", (Chain(known),)), Record("z", (Chain(protein(3)),))]
    facts = near_training(records, [corpus]).facts["chain1"]
    assert (facts["sequences"], facts["none"], facts["maximum"]) == (3, 1, 1.0)
    assert facts["median"] == pytest.approx(79 / 80)
    refused = near_training(records, [corpus], most_known=1)
    assert refused.facts == {}
    assert "there are 2 training chains and up to 1 are searched" in refused.note
    cut = near_training(records, [corpus], most=2)
    assert cut.facts["chain1"]["sequences"] == 2
    assert cut.note == "2 of 3 distinct chains, by content"


def test_the_window_sees_the_neighbours_that_the_residue_alone_does_not():
    records = [Record(f"r{n}", (Chain(protein(n, 60)),)) for n in range(30)]
    behind = [
        np.array([c == "A" for c in each.chains[0].residues[1:]] + [False], dtype=np.int64)
        for each in records
    ]
    behind[0][:5] = UNLABELLED
    labelled = LabelledRecords(records, Target("classes", "residue", ("no", "yes")), behind)
    rows = np.arange(30)
    found = window_baseline(labelled, rows[:20], rows[20:25], rows[25:])
    assert list(found) == ["window"]
    assert [each.shape for each in found["window"]] == [(60, 2)] * 5
    called = np.concatenate([each.argmax(axis=1) for each in found["window"]])
    assert (called == np.concatenate(behind[25:])).mean() > 0.99
    cut = window_baseline(labelled, rows[:20], rows[20:25], rows[25:], most=600)
    assert list(cut) == ["window, 10 records"]
    values = LabelledRecords(records, Target("value", "residue"), [each.astype(float) for each in behind])
    assert window_baseline(values, rows[:20], rows[20:25], rows[25:]) == {}
