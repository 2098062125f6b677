import pytest

from protlm.errors import ConfigError
from protlm.models.default import DEFAULT_MODEL, NUM_LOOKED_AT, default_model
from protlm.types.record import Chain, Record

VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS"
)
BETA = (
    "NAGVTQTPKFQVLKTGQSMTLQCAQDMNHEYMSWYRQDPGMGLRLIHYSVGAGITDQGEVPNGYNVSRSTTEDFPLRLLSAAPSQTSVYFC"
    "ASSYVGNTGELFFGEGSRLTVL"
)


def test_antibodies_take_the_packaged_model_and_say_so():
    said = []
    assert default_model([Record("a", (Chain(VH),))], say=said.append) == DEFAULT_MODEL
    assert len(said) == 1
    assert DEFAULT_MODEL in said[0]


@pytest.mark.parametrize(
    "other", ["MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQ", BETA]
)
def test_anything_else_needs_a_named_model(other):
    records = [Record("a", (Chain(VH),)), Record("odd", (Chain(other),))]
    with pytest.raises(ConfigError, match="'odd' has no antibody variable domain") as caught:
        default_model(records, say=print)
    assert "--model" in str(caught.value.hint)


def test_a_complex_with_one_antibody_chain_is_one():
    complexed = Record("fab", (Chain("MKTAYIAKQR"), Chain(VH)))
    assert default_model([complexed], say=lambda _: None) == DEFAULT_MODEL


def test_only_the_first_records_are_looked_at():
    read = []

    def stream():
        for number in range(10 * NUM_LOOKED_AT):
            read.append(number)
            yield Record(str(number), (Chain(VH),))

    default_model(stream(), say=lambda _: None)
    assert len(read) == NUM_LOOKED_AT
