"""The nearest sequence of another fold: beside a calculation by hand, by place, by edits, by alignment."""

import numpy as np
import polars as pl
import pytest

from protlm.data.fold_identity import fold_neighbours
from protlm.data.fold_search import nearest_by_search
from protlm.types.record import Chain, Record, Role

LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def protein(seed: int, length: int = 80) -> str:
    return "".join(np.random.default_rng(seed).choice(LETTERS, length))


def changed(text: str, places: list[int]) -> str:
    return "".join("W" if n in places and c != "W" else "A" if n in places else c for n, c in enumerate(text))


def records_of(texts: list[str]) -> list[Record]:
    return [Record(f"r{n}", (Chain(text),)) for n, text in enumerate(texts)]


def test_variants_are_compared_place_by_place_and_what_is_in_the_fold_does_not_count(monkeypatch):
    monkeypatch.setenv("MMSEQS2_PATH", "/nowhere")
    wild = protein(0, 40)
    generator = np.random.default_rng(1)
    texts = [changed(wild, generator.choice(40, 1 + n % 5, replace=False).tolist()) for n in range(60)]
    folds = generator.integers(0, 3, 60)
    found = fold_neighbours(records_of(texts), folds).table
    for row in found.iter_rows(named=True):
        own = texts[int(row["id"][1:])]
        others = [text for text, fold in zip(texts, folds, strict=True) if fold != int(row["fold"])]
        best = max(np.mean([a == b for a, b in zip(own, other, strict=True)]) for other in others)
        assert row["identity"] == pytest.approx(best)
        near = int(row["train_id"][1:])
        assert folds[near] != int(row["fold"])
        assert np.mean([a == b for a, b in zip(own, texts[near], strict=True)]) == pytest.approx(best)
    assert len(found) == len({(text, fold) for text, fold in zip(texts, folds.tolist(), strict=True)})


def test_one_tested_fold_is_asked_for_alone_and_chains_by_their_roles():
    heavy, light = protein(2, 30), protein(3, 30)
    pairs = [
        Record("a", (Chain(heavy, Role.HEAVY), Chain(light, Role.LIGHT))),
        Record("b", (Chain(light, Role.HEAVY), Chain(light, Role.LIGHT))),
        Record("t", (Chain(changed(heavy, [4, 9, 20]), Role.HEAVY), Chain(heavy, Role.LIGHT))),
    ]
    found = fold_neighbours(pairs, ["train", "train", "test"], tested=["test"])
    assert found.table["fold"].unique().to_list() == ["test"]
    facts = found.facts()
    assert facts["heavy"]["maximum"] == pytest.approx(0.9)
    assert facts["light"]["maximum"] < 0.5  # the copy of it is a heavy chain
    pooled = fold_neighbours(pairs, ["train", "train", "test"], tested=["test"], is_ordered=False)
    assert pooled.facts()["chains"]["from_1"] == pytest.approx(0.5)


def test_numbered_chains_are_compared_at_their_positions_in_spite_of_a_gap(monkeypatch):
    monkeypatch.setenv("MMSEQS2_PATH", "/nowhere")
    text = protein(4, 20)
    codes = np.arange(1, 21, dtype=np.uint16)
    shorter = np.delete(codes, 5)
    first = Chain(text, Role.HEAVY, tracks={"position": codes})
    second = Chain(text[:5] + text[6:], Role.HEAVY, tracks={"position": shorter})
    found = fold_neighbours([Record("a", (first,)), Record("b", (second,))], [0, 1])
    assert found.table["identity"].to_list() == pytest.approx([19 / 20, 19 / 20])
    assert found.notes == ["compared at IMGT positions: heavy"]


def test_peptides_by_edits_equal_a_plain_calculation(monkeypatch):
    monkeypatch.setenv("MMSEQS2_PATH", "/nowhere")
    generator = np.random.default_rng(5)
    texts = sorted(
        {"".join(generator.choice(LETTERS[:4], length)) for length in (6, 7, 8, 9) for _ in range(12)}
    )
    home = generator.integers(0, 3, len(texts))
    found = nearest_by_search(texts, home, np.arange(len(texts)), is_one=False)
    for row, text in enumerate(texts):
        alike = [
            1 - edits(text, other) / max(len(text), len(other))
            for other, fold in zip(texts, home, strict=True)
            if fold != home[row]
        ]
        assert found.identity[row] == pytest.approx(max(alike))
        assert home[found.target[row]] != home[row]


def edits(first: str, second: str) -> int:
    row = list(range(len(second) + 1))
    for n, a in enumerate(first, 1):
        before, row[0] = row[0], n
        for m, b in enumerate(second, 1):
            before, row[m] = row[m], min(row[m] + 1, row[m - 1] + 1, before + (a != b))
    return row[-1]


def test_proteins_are_aligned_over_folds_and_a_second_search_is_taken_from_the_folder(tmp_path, monkeypatch):
    base, other = protein(6, 90), protein(7, 120)
    texts = [base, changed(base, list(range(0, 90, 10))), changed(base, [3]), other, other, protein(8, 70)]
    folds = [0, 1, 0, 0, 2, 1]
    found = fold_neighbours(records_of(texts), folds, folder=tmp_path)
    identity = {(row["id"], row["fold"]): row["identity"] for row in found.table.iter_rows(named=True)}
    assert identity["r1", "1"] == pytest.approx(0.9, abs=0.03)
    assert identity["r0", "0"] == pytest.approx(0.9, abs=0.03)  # not 0.99, which is in its own fold
    assert (identity["r3", "0"], identity["r4", "2"], identity["r5", "1"]) == (1.0, 1.0, 0.0)
    assert found.facts()["chain1"]["none"] == 1
    monkeypatch.setenv("MMSEQS2_PATH", "/nowhere")
    assert fold_neighbours(records_of(texts), folds, folder=tmp_path).table.equals(found.table)


def test_many_test_sequences_are_drawn_by_content(monkeypatch):
    monkeypatch.setenv("MMSEQS2_PATH", "/nowhere")
    wild = protein(9, 30)
    texts = [wild] + [changed(wild, [n]) for n in range(30)]
    folds = ["train"] + ["test"] * 30
    found = fold_neighbours(records_of(texts), folds, tested=["test"], most=10)
    assert len(found.table) == 10
    assert found.notes == ["10 of 30 distinct test sequences of chain1 were compared, drawn by content"]
    turned = fold_neighbours(records_of(texts)[::-1], folds[::-1], tested=["test"], most=10)
    assert set(turned.table["id"]) == set(found.table["id"])
    assert found.table["identity"].to_list() == pytest.approx([29 / 30] * 10)
    assert isinstance(found.table, pl.DataFrame)
