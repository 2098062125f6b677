"""Training of sub-words: byte-pair encoding on proteins, the same for any order of the input."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from protlm.data.layout import TokenLayout, layout_of_vocabulary
from protlm.data.subwords import SPECIALS, layout_of_file
from protlm.errors import DataError
from protlm.types.alphabet import STANDARD, UNUSUAL

Kind = Literal["byte-bpe", "bpe", "residue"]

ALPHABETS: dict[str, tuple[str, ...]] = {
    "byte-bpe": tuple(sorted(pre_tokenizers.ByteLevel.alphabet())),
    "bpe": tuple(sorted(STANDARD + UNUSUAL)),
}
"""What merges start from: the 256 bytes as Hugging Face writes them, or the 26 residue letters."""

PUBLISHED_MERGES = 10_000
LONGEST_PIECE = 10_000
"""Residues; a longer chain is cut for training, because each merge reads a chain from end to end."""


@dataclass(frozen=True)
class TrainedSubwords:
    """A layout and what it was made of."""

    layout: TokenLayout
    num_chains: int
    num_residues: int
    num_cut: int
    """Chains that were cut into pieces for training."""

    @property
    def num_merges(self) -> int:
        """Merges that were found."""
        return len(self.layout.merges)


def train_subwords(
    chains: Sequence[str],
    *,
    kind: Kind = "byte-bpe",
    num_merges: int = PUBLISHED_MERGES,
    min_frequency: int = 2,
    show_progress: bool = False,
) -> TrainedSubwords:
    """Learn the merges of a byte-pair encoding from proteins.

    A chain is one word. Of pairs that are equally frequent the one with the lower ids is merged first, so
    neither the order of the chains nor the number of threads matters.

    Parameters
    ----------
    chains
        Residues; a chain that is there twice counts twice.
    kind
        ``"byte-bpe"`` has the 256 bytes below the merges, as the published tokenizer; ``"bpe"`` the 26
        residue letters; ``"residue"`` has no merges and needs no chains.
    num_merges
        To find at most; fewer are found where no pair is left that is frequent enough.
    min_frequency
        How often a pair must stand in the chains to be merged.
    show_progress
        Whether the trainer draws its bars.

    Raises
    ------
    DataError
        If there is no chain to learn from.

    Notes
    -----
    DISCREPANCY: the published run (`train_byte_level_bpe.py` of PaccMann/paccmann_proteomics) trained with
    ``add_prefix_space=True`` and loaded the result with False, so that tokens with a leading space were
    learnt and never used. Here there is no space. The layout is the published one otherwise: ``<s> <pad>
    </s> <unk> <mask>`` are 0 to 4, the bytes 5 to 260, the merges follow.

    References
    ----------
    Sennrich et al. 2016, doi:10.18653/v1/P16-1162; Filipavicius et al. 2020, arXiv:2012.03084, figure 4.

    Examples
    --------
    >>> trained = train_subwords(["MKLLA", "GLLA", "LLAW"], kind="bpe", num_merges=2)
    >>> trained.layout.merges, len(trained.layout.tokens)
    (('L A', 'L LA'), 33)
    """
    if kind == "residue":
        return TrainedSubwords(layout_of_vocabulary("roberta", separator="eos-eos"), 0, 0, 0)
    if not chains:
        raise DataError("there is no chain to learn sub-words from", hint="give at least a few proteins")
    alphabet = ALPHABETS[kind]
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=len(SPECIALS) + len(alphabet) + num_merges,
        min_frequency=min_frequency,
        special_tokens=list(SPECIALS),
        initial_alphabet=list(alphabet),
        show_progress=show_progress,
    )
    tokenizer.train_from_iterator((_pieces(chain) for chain in chains), trainer=trainer, length=len(chains))
    return TrainedSubwords(
        layout=layout_of_file(json.loads(tokenizer.to_str())),
        num_chains=len(chains),
        num_residues=sum(map(len, chains)),
        num_cut=sum(len(chain) > LONGEST_PIECE for chain in chains),
    )


def _pieces(chain: str) -> list[str]:
    return [chain[start : start + LONGEST_PIECE] for start in range(0, len(chain), LONGEST_PIECE)]
