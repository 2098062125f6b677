"""A Batch: flat token tensors with the map from every token back to its residues."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from protlm.errors import ModelError

NOT_A_RESIDUE = -1
"""What `chain_index`, `residue_start` and `residue_stop` hold for begin, end and separator tokens."""


@dataclass(frozen=True)
class Batch:
    """Sequences of tokens laid end to end, without padding.

    Letters of the shapes: ``t`` tokens of the whole batch, ``s`` sequences, ``u`` tokens at
    residue level where a tokenizer puts several residues into one. A sequence is one record as the model
    sees it. `pad` and `unpad` convert any per-token tensor to ``[s, l, ...]`` and back for models that need
    a rectangle.
    """

    tokens: Int[Tensor, " t"]
    """Vocabulary ids."""
    offsets: Int[Tensor, " s+1"]
    """Where each sequence starts in the flat tensors; the last value is ``t``."""
    sequence_index: Int[Tensor, " t"]
    """Which sequence a token belongs to."""
    chain_index: Int[Tensor, " t"]
    """Which chain of its record, 0-based; `NOT_A_RESIDUE` for special tokens."""
    residue_start: Int[Tensor, " t"]
    """First residue under the token, 0-based in its chain; `NOT_A_RESIDUE` for special tokens."""
    residue_stop: Int[Tensor, " t"]
    """One past the last residue under the token; `NOT_A_RESIDUE` for special tokens."""
    positions: Int[Tensor, " t"]
    """0-based place along the sequence that position embeddings see, gaps between chains included."""
    record_keys: Int[Tensor, " s"]
    """64-bit content keys of the records; random draws depend on these, never on the order."""
    tracks: dict[str, Tensor] = field(default_factory=dict)
    """Per-residue tracks brought to tokens, each ``[t]``; 0 on special tokens. None with sub-words, where a
    token has no one region: look into `by_residue`."""
    standard: Bool[Tensor, " t"] | None = None
    """Whether all residues under the token are of the twenty amino acids: what masking may select."""
    roles: Int[Tensor, " t"] | None = None
    """`Role` of the chain a token belongs to; 0 on special tokens and where it is not known."""
    by_residue: "Batch | None" = None
    """With sub-words: the same records with a token for each residue, and with their tracks."""
    residue_tokens: Int[Tensor, " u"] | None = None
    """With sub-words: the token of this batch that each token of `by_residue` is under."""

    @property
    def num_sequences(self) -> int:
        """How many sequences there are."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int[Tensor, " s"]:
        """Tokens per sequence."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def is_residue(self) -> Bool[Tensor, " t"]:
        """Whether a token stands for residues."""
        return self.chain_index != NOT_A_RESIDUE

    @property
    def residue_index(self) -> Int[Tensor, " t"]:
        """The 0-based residue of each token, `NOT_A_RESIDUE` for special tokens.

        Raises
        ------
        ModelError
            If some token covers several residues, as with a sub-word tokenizer.
        """
        if bool((self.residue_stop - self.residue_start > 1).any()):
            raise ModelError(
                "this tokenizer puts several residues into one token, so a token has no single residue",
                hint="use residue_start and residue_stop, or a residue-level model",
            )
        return self.residue_start

    def to(self, device: torch.device | str) -> "Batch":
        """Move every tensor to `device`.

        Parameters
        ----------
        device
            Where to.
        """
        moved = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor | Batch)
        }
        return replace(self, **moved, tracks={name: value.to(device) for name, value in self.tracks.items()})

    def select(self, sequences: Int[np.ndarray, " n"]) -> "Batch":
        """Give a batch of the named sequences, in that order; repeats are allowed.

        Parameters
        ----------
        sequences
            Indices of sequences, 0-based.
        """
        chosen = torch.as_tensor(sequences, dtype=torch.int64)
        source, offsets, lengths = self._tokens_of(chosen)
        by_residue = residue_tokens = None
        if self.by_residue is not None and self.residue_tokens is not None:
            by_residue = self.by_residue.select(sequences)
            places, _, counts = self.by_residue._tokens_of(chosen)
            shift = torch.repeat_interleave(offsets[:-1] - self.offsets[chosen], counts)
            residue_tokens = self.residue_tokens[places] + shift
        return Batch(
            tokens=self.tokens[source],
            offsets=offsets,
            sequence_index=torch.repeat_interleave(torch.arange(len(chosen)), lengths),
            chain_index=self.chain_index[source],
            residue_start=self.residue_start[source],
            residue_stop=self.residue_stop[source],
            positions=self.positions[source],
            record_keys=self.record_keys[chosen],
            tracks={name: values[source] for name, values in self.tracks.items()},
            standard=None if self.standard is None else self.standard[source],
            roles=None if self.roles is None else self.roles[source],
            by_residue=by_residue,
            residue_tokens=residue_tokens,
        )

    def _tokens_of(self, chosen: Int[Tensor, " n"]) -> tuple[Tensor, Tensor, Tensor]:
        """Give the tokens of some sequences, where each sequence starts among them, and its length."""
        lengths = self.lengths[chosen].to(torch.int64)
        offsets = torch.zeros(len(chosen) + 1, dtype=torch.int64)
        torch.cumsum(lengths, 0, out=offsets[1:])
        shift = torch.repeat_interleave(self.offsets[chosen] - offsets[:-1], lengths)
        return shift + torch.arange(int(offsets[-1])), offsets, lengths

    def pad(self, values: Tensor, fill: float) -> Tensor:
        """Lay a flat per-token tensor ``[t, ...]`` out as ``[s, l, ...]``.

        Parameters
        ----------
        values
            Flat.
        fill
            What stands behind the end of the shorter sequences.
        """
        longest = int(self.lengths.max()) if self.num_sequences else 0
        padded = values.new_full((self.num_sequences, longest, *values.shape[1:]), fill)
        padded[self.sequence_index.long(), self._column()] = values
        return padded

    def unpad(self, padded: Tensor) -> Tensor:
        """Undo `pad`.

        Parameters
        ----------
        padded
            ``[s, l, ...]``.
        """
        return padded[self.sequence_index.long(), self._column()]

    def _column(self) -> Tensor:
        index = torch.arange(len(self.tokens), device=self.tokens.device)
        return index - self.offsets[self.sequence_index.long()]


@dataclass(frozen=True)
class Corrupted:
    """A batch with some tokens hidden, and what stood there."""

    batch: Batch
    """With corrupted tokens."""
    rows: Int[Tensor, " r"]
    """Flat indices of the selected tokens, ascending."""
    targets: Int[Tensor, " r"]
    """The original ids at `rows`."""


@dataclass(frozen=True)
class LossOutput:
    """What an objective returns, so that a loop need not know which one it is."""

    loss: Tensor
    """The sum over all counted items, differentiable."""
    count: int
    """How many items the sum runs over; the loop divides by the count of the whole step."""
    parts: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Named sums and their counts, for the log."""
