"""Inverse-folding scores: how much likelier a structure makes a variant than the wild type.

The backbone is encoded once for any number of variants. All logarithms are natural; higher means fitter.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from protlm.errors import DataError, ModelError
from protlm.models import gvp_transformer, protein_mpnn
from protlm.models.structure_encoder import (
    GVPTransformerStructures,
    ProteinMPNNStructures,
    StructureEncoder,
)
from protlm.models.transformer_layers import Memory
from protlm.types.structure import Backbone
from protlm.types.variant import Variant

ORDERED, MARGINAL = "inverse_folding", "inverse_folding_marginal"
PLANS = (ORDERED, MARGINAL)
"""The likelihood of the whole sequence, letter after letter; and that of each letter from structure alone."""
MAX_TOKENS = 8192
_EDGES_PER_TOKEN = 8
"""What a batch of ProteinMPNN may hold, in edges, for each token of the budget."""
OnBatch = Callable[[int], None]


class InverseFolding(Protocol):
    """A backbone that was encoded, whose first chain varies."""

    scores_unresolved: bool
    """Whether it scores letters of residues without coordinates."""
    is_resolved: np.ndarray
    """Whether each residue of the chain has the atoms that the model needs, bool."""

    def scores(self, variants: Sequence[Variant], /, *, on_batch: OnBatch = ...) -> np.ndarray:
        """Give log p(variant | structure) − log p(wild type | structure), float64 ``[n]``.

        Parameters
        ----------
        variants
            Substitutions in the first chain.
        on_batch
            Called with the number of variants finished.
        """
        ...


def open_inverse_folding(
    encoder: StructureEncoder, backbone: Backbone, plan: str = ORDERED, *, max_tokens: int | None = None
) -> InverseFolding:
    """Encode a backbone, to score variants of its first chain.

    Parameters
    ----------
    encoder
        With a decoder.
    backbone
        Its letters are the wild type; those of further chains are given.
    plan
        In `PLANS`.
    max_tokens
        Token budget of a batch.

    Raises
    ------
    ModelError
        If the encoder cannot.
    DataError
        If nothing of the chain is resolved.
    """
    first = backbone.chain(backbone.chain_ids[0])
    if not first.is_resolved.any():
        raise DataError(
            f"structure '{backbone.id}': no residue of chain '{backbone.chain_ids[0]}' has N, CA and C",
            hint="give a structure with its backbone; CA alone is not enough",
        )
    budget = max_tokens or MAX_TOKENS
    if isinstance(encoder, GVPTransformerStructures) and plan == ORDERED and encoder.module.decoder:
        return _LetterByLetter(encoder, backbone, len(first), budget)
    if isinstance(encoder, ProteinMPNNStructures) and len(encoder.module.decoder_layers):
        kind = _InOrder if plan == ORDERED else _Unconditional
        return kind(encoder, backbone, len(first), budget)
    raise ModelError(
        f"structure encoder '{encoder.name}' gives no letters for {plan}",
        hint=f"{ORDERED} needs ESM-IF1 or ProteinMPNN with a decoder, {MARGINAL} needs ProteinMPNN",
    )


def _ignore(_: int) -> None:
    """Nobody waits."""


def _batches(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), max(1, size)):
        yield order[start : start + max(1, size)]


def _indices(letters: str, alphabet: Sequence[str]) -> np.ndarray:
    place = {letter: number for number, letter in enumerate(alphabet)}
    return np.array([place.get(letter, place["X"]) for letter in letters], dtype=np.int64)


class _LetterByLetter:
    """ESM-IF1: each letter of the chain from those before it and the structure.

    What goes before the first mutated site is the same for a variant and the wild type, and is not run again.
    """

    scores_unresolved = True

    def __init__(
        self, encoder: GVPTransformerStructures, backbone: Backbone, size: int, max_tokens: int
    ) -> None:
        self._max_tokens, self.is_resolved = max_tokens, backbone.is_resolved[:size]
        self._device = encoder.device
        with torch.inference_mode():
            states, self._is_hidden, _ = encoder.encode([backbone])
            decoder = encoder.module.decoder
            assert decoder is not None
            self._decoder = decoder
            self._sources = decoder.sources(states)
            self._letters = _indices(backbone.residues[:size], gvp_transformer.TOKENS)
            self._past = [Memory() for _ in decoder.layers]
            logits = decoder(
                self._inputs(self._letters[None]), self._sources, self._is_hidden, past=self._past
            )
            self._wild = logits[0].double().log_softmax(-1).cpu().numpy()
        own = self._wild[np.arange(size), self._letters]
        self._behind = np.append(np.cumsum(own[::-1])[::-1], 0.0)
        """Of the wild type: the sum from each residue on."""

    def _inputs(self, letters: np.ndarray) -> Tensor:
        """Give what each letter follows: the begin token, then the letters but the last."""
        begin = np.full((len(letters), 1), gvp_transformer.BEGIN)
        return torch.from_numpy(np.concatenate([begin, letters[:, :-1]], axis=1)).to(self._device)

    def scores(self, variants: Sequence[Variant], *, on_batch: OnBatch = _ignore) -> np.ndarray:
        firsts = np.array([min((each.index for each in one.mutations), default=0) for one in variants])
        found = np.zeros(len(variants))
        order = np.argsort(-firsts, kind="stable")
        order = order[[not variants[number].is_wild_type for number in order]]
        for rows in _batches(order, self._max_tokens // len(self._letters)):
            found[rows] = self._score([variants[row] for row in rows], int(firsts[rows].min()))
            on_batch(len(rows))
        return found

    def _score(self, variants: Sequence[Variant], first: int) -> np.ndarray:
        """Score variants that do not differ from the wild type before a residue."""
        letters = np.tile(self._letters, (len(variants), 1))
        for row, variant in zip(letters, variants, strict=True):
            for mutation in variant.mutations:
                row[mutation.index] = gvp_transformer.TOKENS.index(mutation.mutant)
        at_first = self._wild[first, letters[:, first]]
        start = first + 1  # inputs up to this one have letters before `first` alone
        if start == letters.shape[1]:
            return at_first - self._behind[first]
        with torch.inference_mode():
            logits = self._decoder(
                self._inputs(letters)[:, start:],
                self._sources,
                self._is_hidden,
                past=[each.first(start) for each in self._past],
                start=start,
            )
            targets = torch.from_numpy(letters[:, start:]).to(self._device)
            later = logits.double().log_softmax(-1).gather(-1, targets[..., None])[..., 0].sum(-1)
        return at_first + later.cpu().numpy() - self._behind[first]


class _OfProteinMPNN:
    """What both ways of ProteinMPNN share: nothing is said of residues without coordinates."""

    scores_unresolved = False

    def __init__(
        self, encoder: ProteinMPNNStructures, backbone: Backbone, size: int, max_tokens: int
    ) -> None:
        self._module, self._device = encoder.module, encoder.device
        self._batch = max_tokens * _EDGES_PER_TOKEN // (len(backbone) * encoder.module.settings.k_neighbors)
        self._letters = _indices(backbone.residues, protein_mpnn.LETTERS)
        self._size = size
        with torch.inference_mode():
            self._encoded = encoder.encode([backbone])
        self.is_resolved = self._encoded.is_known[0, :size].cpu().numpy()

    def _is_told(self, variant: Variant) -> bool:
        return all(self.is_resolved[each.index] for each in variant.mutations)


class _InOrder(_OfProteinMPNN):
    """ProteinMPNN: further chains are seen whole, then the letters of the chain from first to last."""

    def __init__(
        self, encoder: ProteinMPNNStructures, backbone: Backbone, size: int, max_tokens: int
    ) -> None:
        super().__init__(encoder, backbone, size, max_tokens)
        self._wild = self._likelihoods(self._letters[None])[0]

    def scores(self, variants: Sequence[Variant], *, on_batch: OnBatch = _ignore) -> np.ndarray:
        found = np.full(len(variants), np.nan)
        for rows in _batches(np.arange(len(variants)), self._batch):
            letters = np.tile(self._letters, (len(rows), 1))
            for row, number in zip(letters, rows, strict=True):
                for mutation in variants[number].mutations:
                    row[mutation.index] = protein_mpnn.LETTERS.index(mutation.mutant)
            found[rows] = self._likelihoods(letters) - self._wild
            on_batch(len(rows))
        return np.where([self._is_told(each) for each in variants], found, np.nan)

    def _likelihoods(self, letters: np.ndarray) -> np.ndarray:
        """Sum over the resolved residues of the chain."""
        turn = np.arange(letters.shape[1])
        turn[: self._size] += letters.shape[1]
        with torch.inference_mode():
            tokens = torch.from_numpy(letters).to(self._device)
            logs = self._module.ordered(self._encoded, tokens, torch.from_numpy(turn[None]).to(self._device))
            own = logs.double().gather(-1, tokens[..., None])[..., 0].cpu().numpy()
        return (own[:, : self._size] * self.is_resolved).sum(axis=1)


class _Unconditional(_OfProteinMPNN):
    """ProteinMPNN: each letter from the structure alone, so that sites add up."""

    def scores(self, variants: Sequence[Variant], *, on_batch: OnBatch = _ignore) -> np.ndarray:
        with torch.inference_mode():
            logs = self._module.unconditional(self._encoded)[0].double().cpu().numpy()
        place = protein_mpnn.LETTERS.index
        found = [
            sum(
                logs[each.index, place(each.mutant)] - logs[each.index, self._letters[each.index]]
                for each in variant.mutations
            )
            for variant in variants
        ]
        on_batch(len(variants))
        return np.where([self._is_told(each) for each in variants], found, np.nan)
