"""Places in records that tokens stand for, over all inputs that a record is put to a model in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from protlm.models.heads import HeadFacts, views
from protlm.types.batch import NOT_A_RESIDUE, Batch
from protlm.types.record import Record


@dataclass(frozen=True)
class Sites:
    """What one token covers: a residue, or the residues of a sub-word. Letters: ``s`` sites, ``t`` tokens.

    A pair that is read in both orders has two tokens at a site. Sites stand in the order of the records,
    their chains and their residues.
    """

    of_token: Int[np.ndarray, " t"]
    """The site of each token of the batch, `NOT_A_RESIDUE` for special tokens."""
    record: Int[np.ndarray, " s"]
    """0-based."""
    size: Int[np.ndarray, " s"]
    """Residues."""

    def sums(self, values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " s"]:
        """Add up what the tokens of each site have.

        Parameters
        ----------
        values
            One per token.
        """
        inside = self.of_token != NOT_A_RESIDUE
        return np.bincount(self.of_token[inside], weights=values[inside], minlength=len(self.size))

    def by_record(self, values: Float[np.ndarray, " s"]) -> list[Float[np.ndarray, " own"]]:
        """Part what each site has by record.

        Parameters
        ----------
        values
            One per site.
        """
        return np.split(values, np.flatnonzero(np.diff(self.record)) + 1)

    def spread(self, values: Float[np.ndarray, " s"]) -> list[Float[np.ndarray, " r"]]:
        """Give each residue an even part of what its site has, by record.

        Parameters
        ----------
        values
            One per site.
        """
        parted = zip(self.by_record(values), self.by_record(self.size), strict=True)
        return [np.repeat(own / size, size) for own, size in parted]


def find_sites(records: Sequence[Record], facts: HeadFacts, batch: Batch) -> Sites:
    """Find what each token of a batch stands for in the records it was made of.

    Parameters
    ----------
    records
        As `Predictor.batch` was given them.
    facts
        Of the head.
    batch
        From `Predictor.batch`.

    Examples
    --------
    >>> from protlm.data.layout import esm_layout
    >>> from protlm.data.collate import collate
    >>> from protlm.data.flat import flatten_records
    >>> from protlm.models.heads import HeadConfig
    >>> from protlm.types.record import Chain
    >>> from protlm.types.target import Target
    >>> facts = HeadFacts(Target("value", "pair"), HeadConfig(), 8, num_chains=2, both_orders=True)
    >>> pair = Record("ab", (Chain("QV"), Chain("D")))
    >>> batch = collate(flatten_records(views([pair], facts)), esm_layout())
    >>> find_sites([pair], facts, batch).of_token.tolist()
    [-1, 0, 1, -1, -1, 2, -1, -1, 2, -1, -1, 0, 1, -1]
    """
    num_views = facts.num_views
    places = [_chain_places(record, facts) for record in records]
    tokens = torch.nonzero(batch.is_residue.cpu()).flatten().numpy()
    view, chain, start, stop = (
        values.cpu().numpy()[tokens].astype(np.int64)
        for values in (batch.sequence_index, batch.chain_index, batch.residue_start, batch.residue_stop)
    )
    own = np.array(
        [places[v // num_views][v % num_views][c] for v, c in zip(view.tolist(), chain.tolist(), strict=True)]
    )
    found, inverse = np.unique(
        np.stack([view // num_views, own, start, stop], axis=1), axis=0, return_inverse=True
    )
    size = found[:, 3] - found[:, 2]
    if size.sum() != sum(len(record) for record in records):
        raise ValueError("the inputs of a record do not cut its chains into the same tokens")
    of_token = np.full(len(batch.tokens), NOT_A_RESIDUE)
    of_token[tokens] = inverse.reshape(-1)
    return Sites(of_token, found[:, 0], size)


def _chain_places(record: Record, facts: HeadFacts) -> list[list[int]]:
    """Give, for each input of a record, which of the record's chains its chains are."""
    chains = tuple(replace(chain) for chain in record.chains)  # each an object of its own, to be known again
    place = {id(chain): number for number, chain in enumerate(chains)}
    made = views([replace(record, chains=chains)], facts)
    return [[place[id(chain)] for chain in view.chains] for view in made]


def hide(tokens: Tensor, of_token: np.ndarray, hidden: np.ndarray, mask_id: int) -> Tensor:
    """Put the mask token at some sites, in several ways.

    Parameters
    ----------
    tokens
        ``[t]``.
    of_token
        As in `Sites`.
    hidden
        Which sites, bool ``[k, s]``.
    mask_id
        Of the vocabulary.

    Returns
    -------
    Tensor
        ``[k, t]``.
    """
    padded = np.concatenate([hidden, np.zeros((len(hidden), 1), dtype=bool)], axis=1)  # -1: special tokens
    where = torch.from_numpy(padded[:, of_token]).to(tokens.device)
    return torch.where(where, mask_id, tokens)
