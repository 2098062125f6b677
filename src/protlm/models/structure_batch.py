"""Backbones as the GVP-Transformer takes them: a token for each residue, at both ends, and between chains.

Shapes: ``b`` structures, ``t`` tokens of the longest, ``r`` residues of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class StructureBatch:
    """Backbones in a rectangle of tokens."""

    atoms: Float[Tensor, "b t 3 3"]
    """N, CA and C in Å; 0 where not resolved."""
    is_known: Bool[Tensor, "b t"]
    """Whether all three are resolved."""
    is_hidden: Bool[Tensor, "b t"]
    """Padding, and what lies between chains; nothing attends to them."""
    confidence: Float[Tensor, "b t"]
    """0 to 1; 0 where not resolved, -1 where hidden."""

    def to(self, device: torch.device) -> "StructureBatch":
        """Move to a device.

        Parameters
        ----------
        device
            Of the model.
        """
        return StructureBatch(*(getattr(self, each.name).to(device) for each in fields(self)))


def lay_out(
    coordinates: Float[np.ndarray, "r a 3"], chain_index: Int[np.ndarray, " r"], *, spacer: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Put a token before and behind the residues, and hidden ones between chains.

    Parameters
    ----------
    coordinates
        N, CA, C and whatever follows, in Å; not finite where not resolved.
    chain_index
        Of each residue.
    spacer
        Hidden tokens between two chains.

    Returns
    -------
    atoms, token
        Float32 ``[t, 3, 3]``, infinite where not resolved and NaN in hidden tokens; and the 0-based token
        of each residue.
    """
    chains = np.split(np.arange(len(chain_index)), np.flatnonzero(np.diff(chain_index)) + 1)
    none, gap = np.full(1, -1), np.full(spacer, -2)
    parts = [none] + [part for chain in chains for part in (chain, gap)]
    owner = np.concatenate([*parts[:-1], none])  # which residue a token is, or which kind of none
    atoms = np.full((len(owner), 3, 3), np.inf, dtype=np.float32)
    token = np.flatnonzero(owner >= 0)
    atoms[token] = np.where(np.isfinite(coordinates[:, :3]), coordinates[:, :3], np.inf)
    atoms[owner == -2] = np.nan
    return atoms, token


def batch_atoms(atoms: Sequence[np.ndarray], confidence: Sequence[float] | None = None) -> StructureBatch:
    """Put backbones side by side.

    Parameters
    ----------
    atoms
        From `lay_out`.
    confidence
        In each backbone, 0 to 1; 1 if `None`.
    """
    padded = nn.utils.rnn.pad_sequence(
        [torch.from_numpy(each) for each in atoms], batch_first=True, padding_value=torch.nan
    )
    is_hidden = padded[:, :, 0, 0].isnan()
    is_known = padded.isfinite().flatten(2).all(-1)
    trust = torch.ones(len(atoms)) if confidence is None else torch.tensor(confidence)
    return StructureBatch(
        padded.nan_to_num(0.0, 0.0, 0.0), is_known, is_hidden, trust[:, None] * is_known - 1.0 * is_hidden
    )
