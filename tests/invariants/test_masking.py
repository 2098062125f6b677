"""Masks depend on seed, epoch, record and residue, on nothing else; their expected rate is exact."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from fixtures.builders import batch_of, random_records
from protlm.data.collate import collate
from protlm.data.corpus import write_corpus
from protlm.data.flat import flatten_records
from protlm.data.layout import SEPARATORS, esm_layout
from protlm.errors import ConfigError, DataError
from protlm.masking.corrupt import CorruptionConfig, corrupt
from protlm.masking.policies import RegionMasking, UniformMasking
from protlm.masking.selection import Draw
from protlm.types.alphabet import STANDARD, UNUSUAL
from protlm.types.record import Chain, Record
from protlm.types.regions import Region

LAYOUT = esm_layout()
UNIFORM = UniformMasking(mean_rate=0.15)
PREFERENTIAL = RegionMasking(region_rates={Region.CDR3: 0.25}, mean_rate=0.15)
POLICIES = {"uniform": UNIFORM, "preferential": PREFERENTIAL}


@pytest.fixture(scope="module")
def records():
    return random_records(60, seed=8, letters=STANDARD + "X")


@pytest.fixture(scope="module")
def many():
    """About 48,000 residues, in one batch."""
    return batch_of(LAYOUT, *random_records(400, seed=9, lengths=(60, 100)))


def draw(batch, policy=UNIFORM, *, seed=0, epoch=0, **shares):
    shares = CorruptionConfig(**shares) if shares else None
    which = Draw(seed=seed, epoch=epoch)
    return corrupt(batch, policy(batch, which), LAYOUT, draw=which, settings=shares)


def chances(policy, batch, which=Draw()):  # noqa: B008 - frozen
    return policy(batch, which).probabilities


def corrupted_by_record(batch, **options):
    """Map each record's key to its corrupted tokens."""
    tokens = draw(batch, **options).batch.tokens
    parts = zip(batch.record_keys.tolist(), batch.offsets.tolist(), batch.offsets.tolist()[1:], strict=False)
    return {key: tokens[start:stop].tolist() for key, start, stop in parts}


def selected(batch, policy=UNIFORM, **options):
    """Give the selected flat places as a set."""
    return set(draw(batch, policy, **options).rows.tolist())


def record_with(region_codes, residues=None, **more):
    """Make a one-chain record with the given region codes."""
    residues = residues or "A" * len(region_codes)
    return Record("r", (Chain(residues, tracks={"region": np.array(region_codes, np.uint8)}, **more),))


def sums_by_record(values, batch):
    return torch.zeros(batch.num_sequences, dtype=torch.float64).index_add_(
        0, batch.sequence_index, values.double()
    )


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
class TestTheSameMasksFor:
    def test_any_batching(self, policy, records):
        whole = corrupted_by_record(batch_of(LAYOUT, *records), policy=policy)
        for size in (1, 7, 33):
            pieces = [records[start : start + size] for start in range(0, len(records), size)]
            together = [corrupted_by_record(batch_of(LAYOUT, *piece), policy=policy) for piece in pieces]
            assert {key: tokens for piece in together for key, tokens in piece.items()} == whole

    def test_any_order_of_the_records(self, policy, records):
        plain = corrupted_by_record(batch_of(LAYOUT, *records), policy=policy)
        order = np.random.default_rng(0).permutation(len(records))
        shuffled = batch_of(LAYOUT, *[records[index] for index in order])
        assert corrupted_by_record(shuffled, policy=policy) == plain

    def test_a_subset_of_the_records(self, policy, records):
        plain = corrupted_by_record(batch_of(LAYOUT, *records), policy=policy)
        subset = corrupted_by_record(batch_of(LAYOUT, *records[10:50:3]), policy=policy)
        assert len(subset) == 14
        assert subset.items() <= plain.items()

    def test_records_from_a_corpus(self, policy, records, tmp_path):
        plain = corrupted_by_record(batch_of(LAYOUT, *records), policy=policy)
        corpus = write_corpus(tmp_path / "corpus", records[::-1])
        batch = collate(corpus.gather(np.random.default_rng(1).permutation(len(corpus))), LAYOUT)
        assert corrupted_by_record(batch, policy=policy) == plain

    def test_a_model_with_another_separator(self, policy, records):
        plain = draw(batch_of(LAYOUT, *records), policy)
        other = LAYOUT.with_separator("eos")
        batch = batch_of(other, *records)
        again = corrupt(batch, policy(batch, Draw()), other, draw=Draw())

        def place(each):
            index = each.batch.chain_index, each.batch.residue_start
            return [values[each.rows].tolist() for values in index]

        assert place(again) == place(plain)
        assert again.targets.tolist() == plain.targets.tolist()


def test_a_repeated_record_is_masked_alike_and_a_renamed_one_is_not():
    record = random_records(1, seed=3, lengths=(200, 201), pairs=False)[0]
    batch = batch_of(LAYOUT, record, record, replace(record, id="another"))
    tokens = draw(batch).batch.tokens.view(3, -1)
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.equal(tokens[0], tokens[2])


def test_corruption_leaves_its_input_alone_and_reports_what_stood_there(records):
    batch = batch_of(LAYOUT, *records)
    before = batch.tokens.clone()
    corrupted = draw(batch, PREFERENTIAL)
    assert torch.equal(batch.tokens, before)
    assert torch.equal(corrupted.targets, before[corrupted.rows])
    restored = corrupted.batch.tokens.clone()
    restored[corrupted.rows] = corrupted.targets
    assert torch.equal(restored, before)
    assert torch.equal(corrupted.rows, corrupted.rows.unique())


def test_uniform_masking_is_region_masking_with_every_rate_equal(many):
    equal = RegionMasking(region_rates=dict.fromkeys(list(Region)[1:], 0.15), mean_rate=0.15)
    torch.testing.assert_close(chances(equal, many), chances(UNIFORM, many), atol=1e-8, rtol=0)
    assert selected(many, equal) == selected(many, UNIFORM)
    none = RegionMasking(region_rates={}, mean_rate=0.15)
    assert selected(many, none) == selected(many, UNIFORM)


class TestExpectedRate:
    """A record of 100 residues; CDR3 at 0.25, mean 0.15."""

    @pytest.mark.parametrize(
        ("num_cdr3", "inside", "outside"),
        [
            (0, None, 0.15),
            (12, 0.25, (15 - 12 * 0.25) / 88),
            (60, 0.25, 0.0),
            (61, 15 / 61, 0.0),
            (100, 0.15, None),
        ],
        ids=["no CDR3", "an ordinary CDR3", "exactly 60 %", "61 %", "nothing but CDR3"],
    )
    def test_by_hand(self, num_cdr3, inside, outside):
        codes = [Region.CDR3] * num_cdr3 + [Region.FR1] * (100 - num_cdr3)
        batch = batch_of(LAYOUT, record_with(codes))
        probabilities = chances(PREFERENTIAL, batch).tolist()
        assert probabilities[0] == probabilities[-1] == 0.0
        if inside is not None:
            assert probabilities[1 : num_cdr3 + 1] == pytest.approx([inside] * num_cdr3, abs=1e-12)
        if outside is not None:
            assert probabilities[num_cdr3 + 1 : -1] == pytest.approx([outside] * (100 - num_cdr3), abs=1e-12)
        assert sum(probabilities) == pytest.approx(15, abs=1e-9)

    def test_a_low_rate_in_too_large_a_region_is_raised(self):
        """90 of 100 at 0.1 and a mean of 0.3: even at 1 the other ten give 10, so the 90 share 20."""
        masking = RegionMasking(region_rates={Region.CDR3: 0.1}, mean_rate=0.3)
        batch = batch_of(LAYOUT, record_with([Region.CDR3] * 90 + [Region.FR4] * 10))
        probabilities = chances(masking, batch)[1:-1].tolist()
        assert probabilities == pytest.approx([20 / 90] * 90 + [1.0] * 10, abs=1e-12)

    def test_two_regions_over_the_mean_are_scaled_by_one_factor(self):
        """50 at 0.4 and 50 at 0.2 ask for 30 where 15 are wanted: both are halved."""
        masking = RegionMasking(region_rates={Region.CDR3: 0.4, Region.CDR1: 0.2}, mean_rate=0.15)
        batch = batch_of(LAYOUT, record_with([Region.CDR3] * 50 + [Region.CDR1] * 50))
        assert chances(masking, batch)[1:-1].tolist() == pytest.approx([0.2] * 50 + [0.1] * 50, abs=1e-12)

    def test_the_mean_holds_over_both_chains_of_a_pair_and_not_for_each(self):
        """Heavy 10 FR1 + 10 CDR3, light 20 FR1: (6 − 2.5) / 30 everywhere but in CDR3."""
        heavy = record_with([Region.FR1] * 10 + [Region.CDR3] * 10).chains[0]
        light = record_with([Region.FR1] * 20).chains[0]
        batch = batch_of(LAYOUT, Record("pair", (heavy, light)))
        other = 3.5 / 30
        assert chances(PREFERENTIAL, batch)[batch.is_residue].tolist() == pytest.approx(
            [other] * 10 + [0.25] * 10 + [other] * 20, abs=1e-12
        )

    def test_letters_that_cannot_be_masked_do_not_count(self):
        """Eight of ten residues are maskable, one of them CDR3: (1.2 − 0.25) / 7."""
        codes = [Region.FR1] * 8 + [Region.CDR3] * 2
        batch = batch_of(LAYOUT, record_with(codes, residues="AXCDEFGHXK"))
        other = 0.95 / 7
        expected = [other, 0.0, *[other] * 6, 0.0, 0.25]
        assert chances(PREFERENTIAL, batch)[1:-1].tolist() == pytest.approx(expected, abs=1e-12)

    def test_a_record_of_nothing_but_unknown_residues_is_left_alone(self):
        batch = batch_of(LAYOUT, record_with([Region.CDR3] * 4, residues="XXXX"))
        assert chances(PREFERENTIAL, batch).tolist() == [0.0] * 6

    def test_chains_without_a_track_beside_chains_with_one_are_masked_uniformly(self):
        plain = Record("plain", (Chain("ACDEFGHIKL"),))
        batch = batch_of(LAYOUT, plain, record_with([Region.CDR3] * 2 + [Region.FR4] * 8))
        assert chances(PREFERENTIAL, batch)[1:11].tolist() == pytest.approx([0.15] * 10, abs=1e-12)

    def test_records_without_any_region_are_refused(self):
        with pytest.raises(DataError, match=r"needs regions.*\n.*masking\.kind=uniform"):
            chances(PREFERENTIAL, batch_of(LAYOUT, "ACDEF"))

    def test_an_unknown_region_is_refused_by_name(self):
        with pytest.raises(ConfigError, match="CDR3"):
            RegionMasking.Config.from_dict({"region_rates": {"CDR4": 0.2}})


chain_codes = st.lists(st.sampled_from(list(Region)), min_size=1, max_size=40)
rates = st.floats(0, 1)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(
    records=st.lists(st.lists(chain_codes, min_size=1, max_size=2), min_size=1, max_size=4),
    region_rates=st.dictionaries(st.sampled_from(list(Region)[1:]), rates),
    mean_rate=rates,
    letters=st.text(st.sampled_from("ACDEFGX"), min_size=1, max_size=10),
)
def test_probabilities_are_probabilities_and_their_mean_is_exact(records, region_rates, mean_rate, letters):
    built = []
    for number, chains in enumerate(records):
        parts = [
            Chain((letters * 40)[: len(codes)], tracks={"region": np.array(codes, np.uint8)})
            for codes in chains
        ]
        built.append(Record(f"r{number}", tuple(parts)))
    batch = batch_of(LAYOUT, *built)
    probabilities = chances(RegionMasking(region_rates=region_rates, mean_rate=mean_rate), batch)
    assert bool(((probabilities >= 0) & (probabilities <= 1)).all())
    is_amino_acid = torch.tensor([LAYOUT.tokens[token] in STANDARD for token in batch.tokens.tolist()])
    assert not probabilities[~is_amino_acid].any()
    wanted = mean_rate * sums_by_record(is_amino_acid, batch)
    torch.testing.assert_close(sums_by_record(probabilities, batch), wanted, atol=1e-9, rtol=0)


def within_binomial_bounds(successes, trials, rate, sigmas=4.5):
    return abs(successes - trials * rate) <= sigmas * np.sqrt(trials * rate * (1 - rate))


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_as_many_residues_are_selected_as_asked_for_in_each_region(many, policy):
    probabilities = chances(policy, many)
    rows = draw(many, policy).rows
    for region in Region:
        places = many.is_residue & (many.tracks["region"] == region)
        asked, variance = probabilities[places].sum(), (probabilities * (1 - probabilities))[places].sum()
        observed = int(places[rows].sum())
        assert asked > 500
        assert abs(observed - asked) <= 4.5 * variance**0.5


def test_selected_tokens_become_mask_random_or_stay_in_the_asked_shares(many):
    corrupted = draw(many, UniformMasking(mean_rate=0.5))
    now, before = corrupted.batch.tokens[corrupted.rows], corrupted.targets
    total = len(now)
    assert within_binomial_bounds(int((now == LAYOUT.mask_id).sum()), total, 0.8)
    # a random letter is the old one once in twenty
    assert within_binomial_bounds(int((now == before).sum()), total, 0.1 + 0.1 / 20)
    assert within_binomial_bounds(
        int(((now != before) & (now != LAYOUT.mask_id)).sum()), total, 0.1 * 19 / 20
    )


def test_random_replacements_are_the_twenty_amino_acids_equally_often(many):
    everything = draw(many, UniformMasking(mean_rate=1.0), mask_share=0.0, random_share=1.0)
    now = everything.batch.tokens[everything.rows].numpy()
    counts = np.array([(now == LAYOUT.ids[letter]).sum() for letter in STANDARD])
    assert counts.sum() == len(now) > 40_000
    assert chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    "separator", [name for name, tokens in SEPARATORS.items() if set(tokens) <= set(LAYOUT.tokens)]
)
def test_only_the_twenty_are_ever_selected(separator):
    layout = LAYOUT.with_separator(separator)
    records = random_records(30, seed=5, letters=STANDARD[:4] + UNUSUAL)
    batch = batch_of(layout, *records)
    for policy in (
        UniformMasking(mean_rate=1.0),
        RegionMasking(region_rates={Region.CDR3: 1.0}, mean_rate=1.0),
    ):
        rows = corrupt(batch, policy(batch, Draw()), layout, draw=Draw()).rows
        texts = [layout.tokens[token] for token in batch.tokens.tolist()]
        of_chain = batch.is_residue.tolist()  # a linker's residues are of no chain
        allowed = [place for place, text in enumerate(texts) if text in STANDARD and of_chain[place]]
        assert rows.tolist() == allowed
        assert {texts[row] for row in rows.tolist()} == set(STANDARD[:4])


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"epoch": 1}, {"seed": 2**40}, {"seed": 1, "epoch": 1}], ids=str
)
def test_another_seed_or_epoch_draws_independently(many, other):
    """Selected by both: a share 0.3², as for independent draws."""
    policy = UniformMasking(mean_rate=0.3)
    total = int(many.standard.sum())
    both = selected(many, policy) & selected(many, policy, **other)
    assert within_binomial_bounds(len(both), total, 0.09)


def test_seed_and_epoch_are_not_interchangeable(many):
    assert selected(many, seed=1, epoch=2) != selected(many, seed=2, epoch=1)


def test_neighbours_chains_and_records_are_drawn_independently():
    """64 copies of one pair under different ids: selection at each place, and of neighbours, is free."""
    chain = Chain("ACDEFGHIKL" * 10)
    batch = batch_of(LAYOUT, *[Record(f"r{number}", (chain, chain)) for number in range(64)])
    drawn = torch.zeros(len(batch.tokens), dtype=torch.bool)
    drawn[draw(batch, UniformMasking(mean_rate=0.3)).rows] = True
    grid = drawn.view(64, -1)[:, batch.is_residue.view(64, -1)[0]].view(64, 2, 100)
    pairs = {
        "neighbours": grid[:, :, 1:] & grid[:, :, :-1],
        "chains": grid[:, 0] & grid[:, 1],
        "records": grid[1:] & grid[:-1],
    }
    for name, both in pairs.items():
        assert within_binomial_bounds(int(both.sum()), both.numel(), 0.09), name
    per_place = grid.sum(dim=0).flatten().double()
    assert per_place.var().item() == pytest.approx(64 * 0.3 * 0.7, rel=0.35)


def test_what_becomes_of_a_selected_token_does_not_depend_on_how_it_was_selected(many):
    few, more = draw(many, UniformMasking(mean_rate=0.1)), draw(many, UniformMasking(mean_rate=0.4))
    shared = few.rows
    assert torch.equal(few.batch.tokens[shared], more.batch.tokens[shared])
    lowest = few.batch.tokens[shared] == LAYOUT.mask_id
    assert within_binomial_bounds(int(lowest.sum()), len(shared), 0.8)


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.6])
def test_policies_with_one_seed_share_their_draws(many, rate):
    """Where one policy's probability is not higher, it selects a subset."""
    other = UniformMasking(mean_rate=rate)
    lower = chances(PREFERENTIAL, many) <= chances(other, many)
    preferential, uniform = selected(many, PREFERENTIAL), selected(many, other)
    inside = set(np.flatnonzero(lower.numpy()).tolist())
    assert preferential & inside <= uniform
    assert uniform - inside <= preferential
    assert preferential != uniform


def test_both_arms_of_a_study_see_flattened_records_alike(records):
    """Tracks do not enter the draws."""
    bare = [Record(r.id, tuple(Chain(c.residues) for c in r.chains)) for r in records]
    with_tracks, without = collate(flatten_records(records), LAYOUT), collate(flatten_records(bare), LAYOUT)
    assert selected(with_tracks) == selected(without)
