"""Several corpora in one training: shares, epochs, independence of state, and of the input's order."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protlm.data.mixture import MixtureSampler, progress_at, shares_at
from protlm.data.sampling import StepSampler
from protlm.errors import ConfigError
from protlm.schedules import LinearSchedule, SigmoidSchedule

BUDGET = 1000


def sampler(count, lengths, seed):
    random = np.random.default_rng(seed)
    keys = random.integers(0, 2**63, count).astype(np.uint64)
    return StepSampler(random.integers(*lengths, count), keys, step_tokens=BUDGET, seed=2, pool_steps=4)


SHORT, LONG = sampler(300, (10, 20), 0), sampler(200, (30, 50), 1)


def mixture(shares, *, max_steps=400, parts=(SHORT, LONG), seed=7, **options):
    return MixtureSampler(parts, shares, step_tokens=BUDGET, max_steps=max_steps, seed=seed, **options)


def plain(steps):
    return [(each.step, each.source.tolist(), each.epoch.tolist(), each.rows.tolist()) for each in steps]


def within_bounds(count, trials, share, sigmas=4.5):
    return abs(count - trials * share) <= sigmas * (trials * share * (1 - share)) ** 0.5


class TestShares:
    def test_records_are_drawn_at_the_asked_share(self):
        mix = mixture([0.3, 0.7])
        drawn = list(islice(mix.steps(), 400))
        source = np.concatenate([each.source for each in drawn])
        assert within_bounds(int((source == 0).sum()), len(source), 0.3)
        assert mix.num_records.sum(axis=0).tolist() == np.bincount(source).tolist()

    def test_tokens_are_drawn_at_the_asked_share(self):
        mix = mixture([0.3, 0.7], share_of="tokens")
        list(islice(mix.steps(), 400))
        tokens = mix.num_tokens.sum(axis=0)
        assert tokens[0] / tokens.sum() == pytest.approx(0.3, abs=0.02)
        assert mix.num_records.sum(axis=0)[0] > mix.num_records.sum(axis=0)[1]

    def test_long_records_are_not_drawn_less_often_where_steps_are_short(self):
        """With room for two or three long ones in a step, leaving out what does not fit would show."""
        parts = [sampler(300, (1, 2), 0), sampler(300, (400, 401), 1)]
        mix = mixture([0.5, 0.5], parts=parts, max_steps=2000)
        source = np.concatenate([each.source for each in islice(mix.steps(), 2000)])
        assert within_bounds(int((source == 0).sum()), len(source), 0.5)

    def test_a_schedule_is_followed_and_the_rest_goes_to_the_other(self):
        share = LinearSchedule(start=0.9, end=0.1)
        mix = mixture([share, None], max_steps=300)
        drawn = list(islice(mix.steps(), 300))
        for third, expected in ((0, 0.9 - 0.8 / 6), (1, 0.5), (2, 0.1 + 0.8 / 6)):
            source = np.concatenate([each.source for each in drawn[third * 100 : third * 100 + 100]])
            assert (source == 0).mean() == pytest.approx(expected, abs=0.03)
        assert mix.chances(0).tolist() == pytest.approx([0.9, 0.1])
        assert mix.chances(299).tolist() == pytest.approx([0.1, 0.9])

    def test_the_curriculum_of_currab_has_its_mean(self):
        unpaired = SigmoidSchedule(A=0.4, B=0.7, k=15, shift=0.8166)
        mix = mixture([unpaired, None], max_steps=2001)
        means = np.mean([mix.chances(step) for step in range(2001)], axis=0)
        assert means.tolist() == pytest.approx([0.625, 0.375], abs=1e-3)

    def test_a_share_of_nothing_is_never_drawn(self):
        assert not np.concatenate([each.source for each in islice(mixture([1, 0]).steps(), 50)]).any()

    def test_shares_that_leave_nothing_are_refused(self):
        with pytest.raises(ConfigError, match=r"add up to 1\.2 .* nothing is left"):
            shares_at([0.5, None, 0.7], 0.3)
        with pytest.raises(ConfigError, match="no corpus has a share above 0"):
            shares_at([0.0, 0.0], 0.0)


class TestSteps:
    def test_no_step_is_over_the_budget_and_few_are_far_below(self):
        mix = mixture([0.5, 0.5])
        list(islice(mix.steps(), 400))
        tokens = mix.num_tokens.sum(axis=1)
        assert tokens.max() <= BUDGET
        assert tokens.min() > BUDGET - 50

    def test_a_record_over_the_budget_has_a_step_of_its_own(self):
        parts = [sampler(30, (2000, 2001), 0), sampler(30, (10, 11), 1)]
        drawn = list(islice(mixture([0.3, 0.7], parts=parts).steps(), 100))
        assert all(len(each.rows) == 1 for each in drawn if (each.source == 0).any())

    def test_each_corpus_goes_through_its_own_epochs(self):
        """Record by record, whatever else is drawn between: the corpus' own order, epoch after epoch."""
        drawn = list(islice(mixture([0.8, 0.2]).steps(), 300))
        for number, own in enumerate((SHORT, LONG)):
            rows = np.concatenate([each.rows[each.source == number] for each in drawn])
            epochs = np.concatenate([each.epoch[each.source == number] for each in drawn])
            expected = np.concatenate([np.concatenate(own.epoch(e)) for e in range(epochs.max() + 1)])
            assert rows.tolist() == expected[: len(rows)].tolist()
            assert epochs.tolist() == (np.arange(len(rows)) // len(own.keys)).tolist()
        assert drawn[-1].epoch.max() >= 10

    def test_starting_later_gives_the_tail(self):
        whole = plain(islice(mixture([0.4, None]).steps(), 120))
        for first in (0, 1, 59, 119):
            assert plain(islice(mixture([0.4, None]).steps(first), 120 - first)) == whole[first:]

    def test_what_was_drawn_is_counted_the_same_after_a_later_start(self):
        whole, later = mixture([0.4, None], max_steps=60), mixture([0.4, None], max_steps=60)
        list(islice(whole.steps(), 60))
        list(islice(later.steps(45), 15))
        assert np.array_equal(whole.num_records, later.num_records)
        assert np.array_equal(whole.num_tokens, later.num_tokens)

    def test_the_order_of_the_records_does_not_matter(self):
        order = np.random.default_rng(3).permutation(300)
        moved = StepSampler(SHORT.lengths[order], SHORT.keys[order], BUDGET, seed=2, pool_steps=4)
        steps = zip(
            islice(mixture([0.4, 0.6]).steps(), 60),
            islice(mixture([0.4, 0.6], parts=(moved, LONG)).steps(), 60),
            strict=True,
        )
        for one, other in steps:
            assert one.source.tolist() == other.source.tolist()
            short = one.source == 0
            # the order of equally long records within a step is free
            assert sorted(SHORT.keys[one.rows[short]]) == sorted(moved.keys[other.rows[short]])

    def test_another_seed_chooses_otherwise(self):
        one, other = (plain(islice(mixture([0.5, 0.5], seed=seed).steps(), 5)) for seed in (1, 2))
        assert [step[1] for step in one] != [step[1] for step in other]

    @settings(max_examples=40, deadline=None, database=None, derandomize=True)
    @given(
        counts=st.lists(st.integers(1, 40), min_size=2, max_size=4),
        shares=st.lists(st.floats(0, 1), min_size=4, max_size=4),
        budget=st.integers(1, 200),
    )
    def test_every_step_has_a_record_and_fits(self, counts, shares, budget):
        parts = [sampler(count, (1, 30), count) for count in counts]
        weights = [share + 0.01 for share in shares[: len(counts)]]
        mix = MixtureSampler(parts, weights, step_tokens=budget, max_steps=30)
        for each in islice(mix.steps(), 30):
            lengths = [
                int(parts[source].lengths[row]) for source, row in zip(each.source, each.rows, strict=True)
            ]
            assert lengths
            assert sum(lengths) <= budget or len(lengths) == 1
            assert mix.num_tokens[each.step].sum() == sum(lengths)


def test_progress_is_0_at_the_first_step_and_1_at_the_last():
    assert [progress_at(step, 5) for step in (0, 2, 4, 9)] == [0.0, 0.5, 1.0, 1.0]
    assert progress_at(0, 1) == 0.0
