"""Masking of sub-words: policies see residues, a token gets the mean over its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fixtures.builders import batch_of, random_records
from fixtures.subwords import SUBWORDS
from protlm.masking.corrupt import CorruptionConfig, corrupt
from protlm.masking.policies import RegionMasking, UniformMasking
from protlm.masking.selection import SELECT, Draw, Selection, numbers_for, residue_hashes, select
from protlm.masking.span import SpanMasking
from protlm.training.mlm_job import MaskingTally
from protlm.types.record import Chain, Record
from protlm.types.regions import Region

DRAW = Draw(seed=5, epoch=2)
REGION = RegionMasking(region_rates={Region.CDR3: 0.5}, mean_rate=0.2)
UNIFORM = UniformMasking(mean_rate=0.3)
POLICIES = {
    "uniform": UNIFORM,
    "region": REGION,
    "span": SpanMasking(UNIFORM, mean_length=4.0),
}


class ByNumber:
    """Gives the residues of a batch the rates 0.00, 0.01, … and names the sequences that fell back."""

    def __call__(self, batch, draw):
        del draw
        rates = torch.arange(len(batch.tokens), dtype=torch.float64) / 100
        return Selection(rates, fell_back=torch.ones(batch.num_sequences, dtype=torch.bool))


def words_of(batch, rows):
    return [SUBWORDS.tokens[token] for token in batch.tokens[rows].tolist()]


def drawn(batch, policy, layout=SUBWORDS, **shares):
    settings = CorruptionConfig(**shares) if shares else None
    return corrupt(batch, select(policy, batch, DRAW), layout, draw=DRAW, settings=settings)


def test_a_token_gets_the_mean_over_its_residues():
    batch = batch_of(SUBWORDS, "MLLAX/LLM")
    assert words_of(batch, slice(None)) == ["<s>", "M", "LLA", "X", "</s>", "</s>", "LL", "M", "</s>"]
    # places at residue level: <s> 0, M 1, L 2, L 3, A 4, X 5, </s> 6, </s> 7, L 8, L 9, M 10, </s> 11
    selection = select(ByNumber(), batch, DRAW)
    assert selection.probabilities.tolist() == pytest.approx([0, 0.01, 0.03, 0, 0, 0, 0.085, 0.10, 0])
    assert selection.fell_back.tolist() == [True]


def test_the_sum_over_residues_is_what_the_policy_asked_for():
    batch = batch_of(SUBWORDS, *random_records(30, seed=1, letters="LLAMKGS"))
    fine = REGION(batch.by_residue, DRAW).probabilities
    selection = select(REGION, batch, DRAW)
    sizes = (batch.residue_stop - batch.residue_start).clamp(min=0)
    assert float((selection.probabilities * sizes).sum()) == pytest.approx(float(fine.sum()))
    assert float(fine.sum()) == pytest.approx(0.2 * int(batch.by_residue.standard.sum()))


def test_the_token_that_decides_is_the_one_over_the_residue_that_decides_for_the_first():
    batch = batch_of(SUBWORDS, "MLLAMLLMGSG")

    class FromAnother:
        def __call__(self, batch, draw):
            own = torch.arange(len(batch.tokens))
            return Selection(
                torch.full((len(own),), 0.5, dtype=torch.float64), draw_from=own.clamp(min=3) - 2
            )

    # <s> M L L A M L L M G S G </s>; residue i takes the number of the residue two before it
    selection = select(FromAnother(), batch, DRAW)
    assert words_of(batch, slice(None)) == ["<s>", "M", "LLA", "M", "LL", "M", "GSG", "</s>"]
    first = [0, 1, 2, 5, 6, 8, 9, 12]
    expected = [int(batch.residue_tokens[max(place, 3) - 2]) for place in first]
    assert selection.draw_from.tolist() == expected
    rows = drawn(batch, FromAnother()).rows.tolist()
    numbers = numbers_for(residue_hashes(batch, DRAW), SELECT)[expected]
    assert rows == [row for row in range(1, 7) if numbers[row] < 0.5]


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_masks_are_the_same_in_any_batch(policy):
    records = random_records(30, seed=2, letters="LLAMKGSX")
    whole = drawn(batch_of(SUBWORDS, *records), policy)
    by_key = dict(
        zip(
            whole.batch.record_keys.tolist(),
            torch.split(whole.batch.tokens, whole.batch.lengths.tolist()),
            strict=True,
        )
    )
    for size in (1, 7):
        for start in range(0, len(records), size):
            part = drawn(batch_of(SUBWORDS, *records[start : start + size]), policy).batch
            for key, tokens in zip(
                part.record_keys.tolist(), torch.split(part.tokens, part.lengths.tolist()), strict=True
            ):
                assert torch.equal(tokens, by_key[key])


def test_a_corrupted_batch_does_not_hold_what_is_hidden():
    corrupted = drawn(batch_of(SUBWORDS, "MLLAMLLA"), UniformMasking(mean_rate=1.0))
    assert corrupted.batch.by_residue is corrupted.batch.residue_tokens is None
    assert words_of(batch_of(SUBWORDS, "MLLAMLLA"), corrupted.rows) == ["M", "LLA", "M", "LLA"]


def test_replacements_are_tokens_made_of_the_twenty_unless_asked_to_be_compatible():
    batch = batch_of(SUBWORDS, *random_records(200, seed=3))
    everything = UniformMasking(mean_rate=1.0)
    became = drawn(batch, everything, mask_share=0.0, random_share=1.0)
    assert set(became.batch.tokens[became.rows].tolist()) == set(SUBWORDS.replacement_ids.tolist())
    became = drawn(batch, everything, mask_share=0.0, random_share=1.0, compat=True)
    assert set(became.batch.tokens[became.rows].tolist()) == set(range(len(SUBWORDS.tokens)))


def test_the_observed_rate_of_residues_is_the_one_that_was_asked_for():
    batch = batch_of(SUBWORDS, *random_records(600, seed=4, lengths=(30, 60), letters="LLAMKGSX"))
    tally = MaskingTally()
    for epoch in range(4):
        draw = Draw(seed=1, epoch=epoch)
        selection = select(REGION, batch, draw)
        tally.add(batch, selection, corrupt(batch, selection, SUBWORDS, draw=draw).rows)
    can = batch.standard[batch.residue_tokens]
    regions = batch.by_residue.tracks["region"][can].numpy()
    assert tally.maskable.tolist() == (4 * np.bincount(regions, minlength=len(Region))).tolist()
    assert tally.observed.sum() / tally.maskable.sum() == pytest.approx(0.2, abs=0.01)
    assert tally.observed / tally.maskable == pytest.approx(tally.asked / tally.maskable, abs=0.025)
    assert tally.asked[Region.CDR3] / tally.maskable[Region.CDR3] > 0.25  # diluted by its neighbours


def test_residue_level_batches_go_to_the_policy_as_they_are():
    batch = batch_of(SUBWORDS.of_residues, "MLLAX")
    assert torch.equal(select(UNIFORM, batch, DRAW).probabilities, UNIFORM(batch, DRAW).probabilities)
    record = Record("r", (Chain("MLLA", tracks={"region": np.full(4, Region.CDR3, np.uint8)}),))
    whole = select(REGION, batch_of(SUBWORDS, record), DRAW)
    assert whole.probabilities.tolist() == pytest.approx([0, 0.2, 0.2, 0])
    assert replace(whole).fell_back.tolist() == [False]
