"""Masking policies by hand, and what they promise over anything hypothesis makes up."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.builders import batch_of
from protlm.data.layout import esm_layout
from protlm.errors import ConfigError, DataError
from protlm.masking.chain import ChainMasking
from protlm.masking.corrupt import CorruptionConfig, corrupt
from protlm.masking.hybrid import HybridMasking
from protlm.masking.nontemplated import NontemplatedMasking
from protlm.masking.policies import RegionMasking, UniformMasking
from protlm.masking.selection import CHOICE, Draw, record_numbers
from protlm.masking.span import SpanMasking, block_starts
from protlm.masking.weighted import WeightedMasking, water_fill
from protlm.schedules import LinearSchedule
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record, Role
from protlm.types.regions import Mutated, Region, Segment

LAYOUT = esm_layout()
DRAW = Draw()
QUICK = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.too_slow],  # on a machine that others use
}


def chances(policy, batch, draw=DRAW):
    return policy(batch, draw).probabilities


def chain_with(residues=None, *, role=Role.OTHER, **codes):
    """Make a chain whose tracks are given as lists."""
    length = len(next(iter(codes.values()))) if codes else len(residues)
    types = {"weight": np.float32}
    tracks = {name: np.array(values, types.get(name, np.uint8)) for name, values in codes.items()}
    return Chain(residues or (STANDARD * 20)[:length], role=role, tracks=tracks)


def inside(batch, values):
    """Only the values of residues, as a list."""
    return values[batch.is_residue].tolist()


def sums_by_record(values, batch):
    sums = torch.zeros(batch.num_sequences, dtype=torch.float64)
    return sums.index_add_(0, batch.sequence_index, values.double())


def observed(policy, batch, *, epochs, seed=0):
    """How often each token was selected over many epochs."""
    counts = torch.zeros(len(batch.tokens), dtype=torch.float64)
    for epoch in range(epochs):
        draw = Draw(seed=seed, epoch=epoch)
        counts[corrupt(batch, policy(batch, draw), LAYOUT, draw=draw).rows] += 1
    return counts


def layout_of(lengths):
    """What the arithmetic needs of a batch of sequences without special tokens."""
    counts = torch.tensor(lengths)
    return SimpleNamespace(
        lengths=counts, offsets=torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    )


class TestRegionMasking:
    @pytest.mark.parametrize(
        ("num_residues", "num_cdr3", "elsewhere"),
        [(230, 25, 0.137805), (230, 12, 0.1445), (230, 40, 0.1289), (230, 60, 0.1147)],
    )
    def test_equals_the_formula_of_the_published_code(self, num_residues, num_cdr3, elsewhere):
        """mask_cdr3: p_oth = (mlm_prob − f3·p3) / (1 − f3) with f3 = n3 / n, over heavy and light."""
        share = num_cdr3 / num_residues
        formula = (0.15 - share * 0.25) / (1 - share)
        assert formula == pytest.approx(elsewhere, abs=5e-5)
        in_heavy = num_cdr3 // 2 + num_cdr3 % 2
        codes = [Region.CDR3] * num_cdr3 + [Region.FR1] * (num_residues - num_cdr3)
        heavy = codes[:in_heavy] + codes[num_cdr3 : num_cdr3 + 120 - in_heavy]
        light = codes[in_heavy:num_cdr3] + codes[num_cdr3 + 120 - in_heavy :]
        pair = Record("pair", (chain_with(region=heavy), chain_with(region=light)))
        batch = batch_of(LAYOUT, pair)
        masking = RegionMasking(region_rates={Region.CDR3: 0.25}, mean_rate=0.15)
        expected = [0.25 if code == Region.CDR3 else formula for code in heavy + light]
        assert inside(batch, chances(masking, batch)) == pytest.approx(expected, abs=1e-12)
        assert float(chances(masking, batch).sum()) == pytest.approx(0.15 * num_residues, abs=1e-9)

    def test_uniform_is_the_special_case_of_equal_rates(self):
        batch = batch_of(LAYOUT, Record("r", (chain_with(region=[Region.FR3] * 90 + [Region.CDR3] * 10),)))
        equal = RegionMasking(region_rates={Region.CDR3: 0.15}, mean_rate=0.15)
        torch.testing.assert_close(chances(equal, batch), chances(UniformMasking(mean_rate=0.15), batch))

    def test_with_a_rate_for_the_others_nothing_is_solved(self):
        masking = RegionMasking.Config(region_rates={"CDR1": 0.5}, mean_rate=None, other_rate=0.1).build()
        batch = batch_of(LAYOUT, Record("r", (chain_with(region=[Region.FR1] * 3 + [Region.CDR1] * 2),)))
        assert inside(batch, chances(masking, batch)) == [0.1, 0.1, 0.1, 0.5, 0.5]

    def test_records_without_the_regions_are_told(self):
        with_cdr, without = [Region.FR1, Region.CDR3], [Region.FR1, Region.FR2]
        records = [Record(str(i), (chain_with(region=codes),)) for i, codes in enumerate((with_cdr, without))]
        masking = RegionMasking(region_rates={Region.CDR3: 0.2}, mean_rate=0.15)
        assert masking(batch_of(LAYOUT, *records), DRAW).fell_back.tolist() == [False, True]

    @pytest.mark.parametrize("rates", [{"mean_rate": None}, {"mean_rate": 0.15, "other_rate": 0.0}])
    def test_exactly_one_of_mean_and_other_rate_is_needed(self, rates):
        with pytest.raises(ConfigError, match="either mean_rate"):
            RegionMasking.Config.from_dict(rates)

    def test_a_schedule_is_followed(self):
        masking = RegionMasking(
            region_rates={Region.CDR3: LinearSchedule(start=0.15, end=0.35)}, mean_rate=0.15
        )
        batch = batch_of(LAYOUT, Record("r", (chain_with(region=[Region.FR1] * 8 + [Region.CDR3] * 2),)))
        for progress, rate in ((0.0, 0.15), (0.5, 0.25), (1.0, 0.35)):
            probabilities = inside(batch, chances(masking, batch, Draw(progress=progress)))
            assert probabilities[-1] == pytest.approx(rate)
            assert sum(probabilities) == pytest.approx(1.5)


class TestWaterFilling:
    @pytest.mark.parametrize(
        ("weights", "total", "expected"),
        [
            ([1, 1, 1, 1], 2, [0.5] * 4),
            ([3, 1], 1, [0.75, 0.25]),
            ([8, 1, 1], 2, [1, 0.5, 0.5]),
            ([100, 10, 1, 1], 3, [1, 1, 0.5, 0.5]),
            ([4, 4, 0, 0], 3, [1, 1, 0.5, 0.5]),
            ([0, 0, 0, 0], 1, [0.25] * 4),
            ([1e-300, 1e-300], 1, [0.5, 0.5]),
            ([5, 1], 2, [1, 1]),
            ([5, 1], 0, [0, 0]),
        ],
        ids=str,
    )
    def test_by_hand(self, weights, total, expected):
        one = layout_of([len(weights)])
        values = torch.tensor(weights, dtype=torch.float64)
        everywhere = torch.ones(len(weights), dtype=torch.bool)
        got = water_fill(values, torch.tensor([float(total)], dtype=torch.float64), everywhere, one)
        assert got.tolist() == pytest.approx(expected, abs=1e-12)

    @settings(max_examples=300, **QUICK)
    @given(
        parts=st.lists(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), min_size=1, max_size=4),
        rate=st.floats(0, 1),
    )
    def test_it_sums_up_is_in_proportion_and_never_over_one(self, parts, rate):
        sequence = torch.from_numpy(np.repeat(np.arange(len(parts)), [len(part) for part in parts]))
        batch = layout_of([len(part) for part in parts])
        weights = torch.tensor([value for part in parts for value in part], dtype=torch.float64)
        everywhere = torch.ones(len(weights), dtype=torch.bool)
        target = rate * torch.tensor([len(part) for part in parts], dtype=torch.float64)
        got = water_fill(weights, target, everywhere, batch)
        assert bool(((got >= 0) & (got <= 1)).all())
        sums = torch.zeros(len(parts), dtype=torch.float64).index_add_(0, sequence, got)
        torch.testing.assert_close(sums, target, atol=1e-9, rtol=1e-12)
        for number in range(len(parts)):
            own = sequence == number
            largest = weights[own].max()
            free = own & (got < 1) & (weights > 1e-9 * largest) & (weights > 0)
            ratios = got[free] / weights[free]
            if len(ratios) > 1:  # one factor for all that are below 1
                assert float(ratios.max() - ratios.min()) <= 1e-9 * float(ratios.max()) + 1e-290
            # who weighs more is never selected less
            order = weights[own].argsort()
            assert bool((got[own][order].diff() >= -1e-9).all())


class TestWeightedMasking:
    def test_by_names_of_segments(self):
        """Ten V at weight 1, two N at 5: 3 of 12 in the mean, so λ = 3 / 20."""
        batch = batch_of(LAYOUT, Record("r", (chain_with(segment=[Segment.V] * 10 + [Segment.N] * 2),)))
        masking = WeightedMasking(track="segment", weights={"N": 5.0}, mean_rate=0.25)
        assert inside(batch, chances(masking, batch)) == pytest.approx([0.15] * 10 + [0.75] * 2)

    def test_by_the_users_own_weights(self):
        batch = batch_of(LAYOUT, Record("r", (chain_with(weight=[0, 1, 3, 4, 0, 0, 0, 0]),)))
        masking = WeightedMasking(track="weight", mean_rate=0.125)
        assert inside(batch, chances(masking, batch)) == pytest.approx([0, 0.125, 0.375, 0.5, 0, 0, 0, 0])

    def test_letters_that_cannot_be_masked_neither_count_nor_weigh(self):
        chain = chain_with("AXCD", mutated=[Mutated.GERMLINE, Mutated.MUTATED, Mutated.MUTATED, Mutated.NONE])
        batch = batch_of(LAYOUT, Record("r", (chain,)))
        masking = WeightedMasking(track="mutated", weights={"MUTATED": 4.0}, mean_rate=0.5)
        assert inside(batch, chances(masking, batch)) == pytest.approx([0.25, 0, 1.0, 0.25])

    def test_a_record_without_weight_is_masked_uniformly_and_told(self):
        chains = [chain_with(weight=[0, 0, 0, 0]), chain_with(weight=[0, 0, 0, 1])]
        batch = batch_of(LAYOUT, *[Record(str(i), (chain,)) for i, chain in enumerate(chains)])
        selection = WeightedMasking(track="weight", mean_rate=0.25)(batch, DRAW)
        assert inside(batch, selection.probabilities) == pytest.approx([0.25] * 4 + [0, 0, 0, 1])
        assert selection.fell_back.tolist() == [True, False]

    @pytest.mark.parametrize("wrong", [-0.5, float("nan"), float("inf")])
    def test_a_weight_that_is_none_is_refused(self, wrong):
        batch = batch_of(LAYOUT, Record("r", (chain_with(weight=[1, wrong]),)))
        with pytest.raises(DataError, match=f"weight {wrong:g}; expected a number of at least 0"):
            chances(WeightedMasking(track="weight", mean_rate=0.25), batch)

    def test_a_missing_track_is_named(self):
        with pytest.raises(DataError, match="needs the track 'mutated'"):
            chances(WeightedMasking(track="mutated", mean_rate=0.25), batch_of(LAYOUT, "ACD"))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"track": "segment", "weights": {"CDR3": 2}}, "unknown segment 'CDR3'"),
            ({"track": "region", "weights": {"CDR4": 2}}, "unknown region 'CDR4'; did you mean 'CDR"),
            ({"track": "weight", "weights": {"N": 2}}, "holds the weights itself"),
            ({"weights": {"CDR3": -1}}, "at least 0"),
        ],
        ids=str,
    )
    def test_mistakes_are_named(self, values, message):
        with pytest.raises(ConfigError, match=message):
            WeightedMasking.Config.from_dict(values)

    @settings(max_examples=100, **QUICK)
    @given(
        records=st.lists(
            st.lists(
                st.lists(st.sampled_from(list(Segment)), min_size=1, max_size=30), min_size=1, max_size=2
            ),
            min_size=1,
            max_size=4,
        ),
        weights=st.dictionaries(st.sampled_from(["V", "N", "D", "J"]), st.floats(0, 100)),
        other=st.floats(0, 5),
        rate=st.floats(0, 1),
        letters=st.text(st.sampled_from("ACDEFGX"), min_size=1, max_size=10),
    )
    def test_the_mean_is_exact_for_every_record(self, records, weights, other, rate, letters):
        built = [
            Record(str(number), tuple(chain_with((letters * 30)[: len(c)], segment=c) for c in chains))
            for number, chains in enumerate(records)
        ]
        batch = batch_of(LAYOUT, *built)
        masking = WeightedMasking(track="segment", weights=weights, other=other, mean_rate=rate)
        probabilities = chances(masking, batch)
        assert bool(((probabilities >= 0) & (probabilities <= 1)).all())
        assert not probabilities[~batch.standard].any()
        wanted = rate * sums_by_record(batch.standard, batch)
        torch.testing.assert_close(sums_by_record(probabilities, batch), wanted, atol=1e-9, rtol=0)


class TestNontemplatedMasking:
    SEGMENTS = (Segment.V, Segment.N, Segment.N, Segment.D, Segment.J, Segment.J)
    MUTATED = (
        Mutated.MUTATED,
        Mutated.NONE,
        Mutated.NONE,
        Mutated.GERMLINE,
        Mutated.MUTATED,
        Mutated.GERMLINE,
    )

    @pytest.fixture
    def batch(self):
        with_n = chain_with("ACDEFG", segment=self.SEGMENTS, mutated=self.MUTATED)
        without = chain_with("ACDEFX", segment=[Segment.V] * 6, mutated=[Mutated.GERMLINE] * 6)
        return batch_of(LAYOUT, Record("with", (with_n,)), Record("without", (without,)))

    def test_n_residues_only(self, batch):
        selection = NontemplatedMasking(rate=0.4, without="skip")(batch, DRAW)
        assert inside(batch, selection.probabilities) == [0, 0.4, 0.4, 0, 0, 0] + [0] * 6
        assert selection.fell_back.tolist() == [False, True]

    def test_mutated_ones_too(self, batch):
        masking = NontemplatedMasking(rate=0.4, mutated_rate=0.2, without="skip")
        assert inside(batch, chances(masking, batch)) == [0.2, 0.4, 0.4, 0, 0.2, 0] + [0] * 6

    def test_records_without_any_are_masked_uniformly_where_wanted(self, batch):
        masking = NontemplatedMasking(rate=0.4, without="uniform", mean_rate=0.1)
        assert inside(batch, chances(masking, batch))[6:] == [0.1] * 5 + [0.0]

    def test_an_n_residue_that_is_unknown_does_not_count(self):
        chain = chain_with("AXC", segment=[Segment.V, Segment.N, Segment.V])
        selection = NontemplatedMasking(rate=0.4, without="uniform", mean_rate=0.1)(
            batch_of(LAYOUT, Record("r", (chain,))), DRAW
        )
        assert selection.fell_back.tolist() == [True]

    def test_missing_tracks_are_named(self):
        only_segment = batch_of(LAYOUT, Record("r", (chain_with(segment=self.SEGMENTS),)))
        with pytest.raises(DataError, match="needs the track 'segment'"):
            chances(NontemplatedMasking(rate=0.4), batch_of(LAYOUT, "ACD"))
        with pytest.raises(DataError, match="needs the track 'mutated'"):
            chances(NontemplatedMasking(rate=0.4, mutated_rate=0.1), only_segment)


class TestSpanMasking:
    @pytest.fixture(scope="class")
    def long(self):
        random = np.random.default_rng(0)
        residues = ["".join(random.choice(list(STANDARD), 200)) for _ in range(60)]
        return batch_of(
            LAYOUT, *[Record(f"r{i}", (Chain(text), Chain(text[::-1]))) for i, text in enumerate(residues)]
        )

    def test_keeps_the_probabilities_of_the_policy_inside(self, long):
        inner = UniformMasking(mean_rate=0.15)
        assert torch.equal(chances(SpanMasking(inner, mean_length=4), long), chances(inner, long))

    def test_blocks_are_geometric_with_the_mean_length(self, long):
        """A boundary after each residue with probability 1 / 4, but always at the end of a chain."""
        starts = block_starts(long, DRAW, 4.0).numpy()
        begins = (starts == np.arange(len(starts))) & long.is_residue.numpy()
        first = long.residue_start.numpy() == 0
        free = long.is_residue.numpy() & ~first
        share = begins[free].mean()
        assert abs(share - 0.25) < 4.5 * (0.25 * 0.75 / free.sum()) ** 0.5
        assert begins[first].all()

    def test_no_block_crosses_a_chain_or_special_token(self, long):
        starts = block_starts(long, DRAW, 1e9)
        assert torch.equal(long.chain_index[starts], long.chain_index)
        assert torch.equal(long.sequence_index[starts], long.sequence_index)
        own = torch.arange(len(starts))
        assert torch.equal(starts[~long.is_residue], own[~long.is_residue])
        assert torch.equal(starts[long.is_residue], (own - long.residue_start)[long.is_residue])

    def test_of_length_one_is_the_policy_inside(self, long):
        inner = UniformMasking(mean_rate=0.3)
        plain = corrupt(long, inner(long, DRAW), LAYOUT, draw=DRAW).rows
        assert torch.equal(
            corrupt(long, SpanMasking(inner, mean_length=1)(long, DRAW), LAYOUT, draw=DRAW).rows, plain
        )

    def test_selected_runs_have_the_length_that_is_written(self, long):
        """Blocks of mean L that are selected at rate p and may touch: runs of mean L / (1 − p)."""
        rows = corrupt(
            long, SpanMasking(UniformMasking(mean_rate=0.2), mean_length=5)(long, DRAW), LAYOUT, draw=DRAW
        ).rows
        taken = torch.zeros(len(long.tokens), dtype=torch.int64)
        taken[rows] = 1
        num_runs = int(((taken[1:] == 1) & (taken[:-1] == 0)).sum())
        assert len(rows) / num_runs == pytest.approx(5 / 0.8, rel=0.12)

    def test_every_residue_has_its_own_rate_at_the_ends_and_with_mixed_rates(self):
        codes = [Region.FR1] * 6 + [Region.CDR1] * 6 + [Region.FR2] * 4
        records = [Record(f"r{number}", (chain_with(region=codes),)) for number in range(40)]
        batch = batch_of(LAYOUT, *records)
        inner = RegionMasking(region_rates={Region.CDR1: 0.4}, mean_rate=0.25)
        epochs = 300
        counts = observed(SpanMasking(inner, mean_length=3), batch, epochs=epochs).view(40, -1).sum(0)
        rates = chances(inner, batch).view(40, -1)[0]
        trials = epochs * 40
        bounds = 4.5 * (trials * rates * (1 - rates)) ** 0.5
        assert bool(((counts - trials * rates).abs() <= bounds).all())

    def test_inside_another_span_the_rates_hold(self, long):
        nested = SpanMasking(SpanMasking(UniformMasking(mean_rate=0.2), mean_length=2), mean_length=3)
        counts = observed(nested, long, epochs=20)
        total = int(long.standard.sum()) * 20
        # blocks of mean 3 to 6: about 2 · 6 − 1 times the variance of independent residues
        assert abs(float(counts.sum()) - 0.2 * total) < 4.5 * (11 * total * 0.2 * 0.8) ** 0.5


class TestChainMasking:
    @pytest.fixture(scope="class")
    def batch(self):
        heavy, light = Chain("ACDEF", role=Role.HEAVY), Chain("GHIK", role=Role.LIGHT)
        records = [
            Record("pair", (heavy, light)),
            Record("turned", (light, heavy)),
            Record("alone", (heavy,)),
            Record("tcr", (Chain("LMN", role=Role.ALPHA), Chain("PQ", role=Role.BETA))),
            Record("unknown", (Chain("RST"), Chain("VW"))),
            Record("two heavy", (heavy, heavy)),
        ]
        return batch_of(LAYOUT, *records)

    def test_by_role(self, batch):
        selection = ChainMasking(which="heavy", rate=0.6, single_rate=0.1)(batch, DRAW)
        pair = [0.6] * 5 + [0] * 4
        turned = [0] * 4 + [0.6] * 5
        expected = [*pair, *turned, *[0.1] * 5, 0, 0, 0, 0.6, 0.6, *[0.1] * 5, *[0.1] * 10]
        assert inside(batch, selection.probabilities) == pytest.approx(expected)
        assert selection.fell_back.tolist() == [False, False, True, False, True, True]

    def test_light_is_the_other_one(self, batch):
        probabilities = chances(ChainMasking(which="light", rate=1.0, single_rate=0.0), batch)
        expected = [0] * 5 + [1] * 4 + [1] * 4 + [0] * 5 + [0] * 5 + [1, 1, 1, 0, 0] + [0] * 15
        assert inside(batch, probabilities) == expected

    def test_random_takes_one_chain_of_each_record_and_each_equally_often(self, batch):
        masking = ChainMasking(which="random", rate=1.0, single_rate=0.0)
        taken = np.zeros((400, batch.num_sequences, 2), dtype=bool)
        for epoch in range(400):
            probabilities = chances(masking, batch, Draw(epoch=epoch))
            rows = torch.nonzero(probabilities)[:, 0]
            taken[epoch, batch.sequence_index[rows], batch.chain_index[rows]] = True
        assert not taken[:, 2].any()  # one chain: single_rate is 0
        pairs = taken[:, [0, 1, 3, 4, 5]]
        assert (pairs.sum(axis=2) == 1).all()
        firsts = pairs[:, :, 0].sum(axis=0)
        assert (np.abs(firsts - 200) < 4.5 * 10).all()
        assert (
            len({tuple(column) for column in pairs[:, :, 0].T.tolist()}) == 5
        )  # records choose for themselves


class TestHybridMasking:
    def test_each_record_has_one_of_the_policies_at_the_asked_shares(self):
        records = [Record(f"r{number}", (chain_with("ACDEFGHIKL"),)) for number in range(2000)]
        batch = batch_of(LAYOUT, *records)
        policies = [UniformMasking(mean_rate=rate) for rate in (0.1, 0.2, 0.3)]
        probabilities = chances(HybridMasking(policies, weights=[5, 3, 2]), batch)
        rates = probabilities[batch.offsets[:-1] + 1]
        assert bool((probabilities[batch.is_residue].view(2000, 10) == rates[:, None]).all())
        for rate, share in ((0.1, 0.5), (0.2, 0.3), (0.3, 0.2)):
            count = int((rates == rate).sum())
            assert abs(count - 2000 * share) < 4.5 * (2000 * share * (1 - share)) ** 0.5

    def test_another_epoch_chooses_anew(self):
        batch = batch_of(LAYOUT, *[Record(f"r{number}", (chain_with("ACD"),)) for number in range(400)])
        hybrid = HybridMasking([UniformMasking(mean_rate=rate) for rate in (0.1, 0.2)], weights=[1, 1])
        first, second = (chances(hybrid, batch, Draw(epoch=epoch)) for epoch in (0, 1))
        agree = int((first == second)[batch.offsets[:-1] + 1].sum())
        assert abs(agree - 200) < 4.5 * 10

    def test_nested_choices_are_independent(self):
        """Half take the inner mix, of which half take 0.3: a quarter, not a half and not none."""
        batch = batch_of(LAYOUT, *[Record(f"r{number}", (chain_with("ACD"),)) for number in range(2000)])
        inner = HybridMasking([UniformMasking(mean_rate=rate) for rate in (0.2, 0.3)], weights=[1, 1])
        outer = HybridMasking([UniformMasking(mean_rate=0.1), inner], weights=[1, 1])
        rates = chances(outer, batch)[batch.offsets[:-1] + 1]
        for rate, share in ((0.1, 0.5), (0.2, 0.25), (0.3, 0.25)):
            assert abs(int((rates == rate).sum()) - 2000 * share) < 4.5 * (2000 * share * (1 - share)) ** 0.5

    def test_by_default_it_is_the_mix_of_abcdr_esm(self):
        """80 %: half of the CDRs and nothing else; 20 %: 15 % of everything."""
        codes = [Region.FR1] * 10 + [Region.CDR1] * 5 + [Region.FR4] * 5
        batch = batch_of(
            LAYOUT, *[Record(f"r{number}", (chain_with(region=codes),)) for number in range(500)]
        )
        grid = chances(HybridMasking.Config().build(), batch)[batch.is_residue].view(500, 20)
        cdr_only = torch.tensor([0.0] * 10 + [0.5] * 5 + [0.0] * 5, dtype=torch.float64)
        is_cdr = (grid == cdr_only).all(dim=1)
        assert bool((grid[~is_cdr] == 0.15).all())
        assert abs(int(is_cdr.sum()) - 400) < 4.5 * (500 * 0.16) ** 0.5

    def test_expected_rate_of_a_residue_is_the_weighted_mean(self):
        codes = [Region.FR1] * 10 + [Region.CDR1] * 5
        batch = batch_of(LAYOUT, *[Record(f"r{number}", (chain_with(region=codes),)) for number in range(50)])
        policy = HybridMasking.Config().build()
        epochs = 200
        counts = observed(policy, batch, epochs=epochs)[batch.is_residue].view(50, 15).sum(0)
        expected = torch.tensor([0.2 * 0.15] * 10 + [0.8 * 0.5 + 0.2 * 0.15] * 5, dtype=torch.float64)
        trials = 50 * epochs
        assert bool(((counts - trials * expected).abs() < 4.5 * (trials * expected) ** 0.5).all())

    def test_counts_only_the_records_of_the_policy_that_falls_back(self):
        heavy = chain_with("ACDEF", role=Role.HEAVY)
        batch = batch_of(LAYOUT, *[Record(f"r{number}", (heavy,)) for number in range(200)])
        hybrid = HybridMasking(
            [ChainMasking(rate=0.5, single_rate=0.2), UniformMasking(mean_rate=0.1)], weights=[1, 1]
        )
        selection = hybrid(batch, DRAW)
        rates = selection.probabilities[batch.offsets[:-1] + 1]
        assert 60 < int(selection.fell_back.sum()) < 140
        assert torch.equal(selection.fell_back, rates == 0.2)

    def test_spans_and_single_residues_mix(self):
        batch = batch_of(
            LAYOUT, *[Record(f"r{number}", (chain_with("ACDEFGHIKL"),)) for number in range(100)]
        )
        uniform = UniformMasking(mean_rate=0.3)
        hybrid = HybridMasking([SpanMasking(uniform, mean_length=1e9), uniform], weights=[1, 1])
        rows = corrupt(batch, hybrid(batch, DRAW), LAYOUT, draw=DRAW).rows
        counts = torch.bincount(batch.sequence_index[rows], minlength=100)
        is_whole = record_numbers(batch, DRAW, CHOICE) < 0.5
        assert set(counts[torch.from_numpy(is_whole)].tolist()) == {0, 10}
        assert len(set(counts[torch.from_numpy(~is_whole)].tolist())) > 3

    def test_weights_may_be_scheduled(self):
        config = HybridMasking.Config.from_dict(
            {
                "policies": [
                    {"weight": {"kind": "linear", "start": 1, "end": 0}, "masking": {"mean_rate": 0.1}},
                    {"weight": {"kind": "linear", "start": 0, "end": 1}, "masking": {"mean_rate": 0.4}},
                ]
            }
        )
        batch = batch_of(LAYOUT, *[Record(f"r{number}", (chain_with("ACD"),)) for number in range(400)])
        hybrid = config.build()
        shares = [
            float((chances(hybrid, batch, Draw(progress=t))[batch.is_residue] == 0.4).double().mean())
            for t in (0.0, 0.5, 1.0)
        ]
        assert shares[0] == 0.0
        assert shares[1] == pytest.approx(0.5, abs=4.5 * 0.025)
        assert shares[2] == 1.0

    def test_no_weight_at_all_is_refused(self):
        with pytest.raises(ConfigError, match="at least one policy needs a weight above 0"):
            HybridMasking.Config.from_dict({"policies": [{"weight": 0, "masking": "uniform"}]})
        with pytest.raises(ConfigError, match="at least 1 item"):
            HybridMasking.Config.from_dict({"policies": []})

    def test_a_mistake_deep_inside_is_named(self):
        with pytest.raises(ConfigError, match=r"mean_rat.*unknown key|unknown key; did you mean 'mean_rate'"):
            HybridMasking.Config.from_dict(
                {"policies": [{"weight": 1, "masking": {"kind": "uniform", "mean_rat": 0.1}}]}
            )


class TestCompatibleCorruption:
    def test_draws_random_tokens_from_the_whole_vocabulary(self):
        random = np.random.default_rng(1)
        texts = ["".join(random.choice(list(STANDARD), 500)) for _ in range(80)]
        batch = batch_of(LAYOUT, *texts)
        every = UniformMasking(mean_rate=1.0)(batch, DRAW)
        settings_ = CorruptionConfig(mask_share=0.0, random_share=1.0, compat=True)
        corrupted = corrupt(batch, every, LAYOUT, draw=DRAW, settings=settings_)
        counts = np.bincount(corrupted.batch.tokens[corrupted.rows].numpy(), minlength=33)
        expected = counts.sum() / 33
        assert (np.abs(counts - expected) < 4.5 * expected**0.5).all()

    def test_changes_nothing_about_what_is_selected_and_masked(self):
        batch = batch_of(LAYOUT, *["ACDEFGHIKLMNPQRSTVWY" * 20] * 5)
        selection = UniformMasking(mean_rate=0.5)(batch, DRAW)
        plain = corrupt(batch, selection, LAYOUT, draw=DRAW)
        compat = corrupt(batch, selection, LAYOUT, draw=DRAW, settings=CorruptionConfig(compat=True))
        assert torch.equal(plain.rows, compat.rows)
        masked = [each.batch.tokens == LAYOUT.mask_id for each in (plain, compat)]
        assert bool((masked[0] <= masked[1]).all())  # the mask token may also be drawn at random

    def test_shares_over_one_are_refused(self):
        with pytest.raises(ConfigError, match="over 1 together"):
            CorruptionConfig.from_dict({"mask_share": 0.8, "random_share": 0.3})


segment_chains = st.lists(
    st.lists(st.lists(st.sampled_from(list(Segment)), min_size=1, max_size=20), min_size=1, max_size=2),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, **QUICK)
@given(records=segment_chains, epoch=st.integers(0, 1000), rate=st.floats(0.05, 0.95))
@pytest.mark.parametrize(
    "make",
    [
        lambda rate: NontemplatedMasking(rate=rate, mean_rate=0.1),
        lambda rate: ChainMasking(rate=rate, single_rate=0.3),
        lambda rate: SpanMasking(ChainMasking(rate=rate), mean_length=2.5),
        lambda rate: HybridMasking(
            [SpanMasking(UniformMasking(mean_rate=rate), mean_length=3), NontemplatedMasking(rate=0.5)],
            weights=[1, 2],
        ),
    ],
    ids=["nontemplated", "chain", "span of chain", "hybrid"],
)
def test_alone_a_record_is_masked_as_in_company(make, records, epoch, rate):
    built = [
        Record(str(number), tuple(chain_with(segment=codes) for codes in chains))
        for number, chains in enumerate(records)
    ]
    policy, draw = make(rate), Draw(seed=5, epoch=epoch)
    batch = batch_of(LAYOUT, *built)
    selection = policy(batch, draw)
    assert bool(((selection.probabilities >= 0) & (selection.probabilities <= 1)).all())
    assert not selection.probabilities[~batch.standard].any()
    together = corrupt(batch, selection, LAYOUT, draw=draw).batch.tokens
    for number, record in enumerate(built):
        alone = batch_of(LAYOUT, record)
        tokens = corrupt(alone, policy(alone, draw), LAYOUT, draw=draw).batch.tokens
        assert torch.equal(tokens, together[batch.sequence_index == number])
