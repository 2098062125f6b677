"""A holdout follows groups, also those that numbering gives to files without gene calls."""

from dataclasses import replace

from protlm.data.numbering import number_records
from protlm.data.splits import is_held_out
from protlm.types.record import Chain, Record

VH = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
VH += "SRWGGDGFYAMDYWGQGTLVTVSS"


def test_a_clonotype_of_a_file_without_gene_calls_stays_on_one_side():
    variants = [VH[:place] + "A" + VH[place + 1 :] for place in range(10)]
    records = list(number_records([Record(str(n), (Chain(each),)) for n, each in enumerate(variants)]))
    for seed in range(20):
        assert len({is_held_out(record, 0.5, seed=seed) for record in records}) == 1
    # by their residues alone they would be torn apart
    bare = [replace(record, group="") for record in records]
    assert any(len({is_held_out(record, 0.5, seed=seed) for record in bare}) == 2 for seed in range(20))


def test_the_share_is_kept_and_the_seed_draws_another_split():
    records = [Record(str(n), (Chain("MK"),), group=f"g{n}") for n in range(4000)]
    first, second = ([is_held_out(record, 0.2, seed=seed) for record in records] for seed in (0, 1))
    assert 0.17 < sum(first) / 4000 < 0.23
    assert first != second
    assert not any(is_held_out(record, 0.0) for record in records)
    assert all(is_held_out(record, 1.0) for record in records)
