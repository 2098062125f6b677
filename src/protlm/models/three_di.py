"""3Di (van Kempen et al. 2024): one of 20 letters per residue for the place of its neighbour, by biotite."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from protlm.types.structure import Backbone

LETTERS = "acdefghiklmnpqrstvwy"
UNKNOWN = "x"
"""Of a residue that is not resolved, or at the end of a chain."""


def three_di(backbone: Backbone) -> str:
    """Give the 3Di letters of a backbone, one per residue, lower case.

    CB is placed from the backbone, as foldseek does for glycine; strings made of files with CB differ in a
    few letters. Neighbours are looked for in the residue's own chain.

    Parameters
    ----------
    backbone
        Of any chains.
    """
    codes = _codes(backbone)
    return "".join(LETTERS[code] if code >= 0 else UNKNOWN for code in codes.tolist())


def _codes(backbone: Backbone) -> np.ndarray:
    """Give the index of each letter, -1 where there is none."""
    from biotite.structure.alphabet.encoder import Encoder

    codes = np.full(len(backbone), -1, dtype=np.int64)
    for number in range(len(backbone.chain_ids)):
        rows = np.flatnonzero(backbone.chain_index == number)
        n, ca, c = (backbone.coordinates[rows, atom] for atom in range(3))
        is_known = backbone.is_resolved[rows]
        if is_known.sum() < 3:
            continue
        found = Encoder().encode(ca, np.full_like(ca, np.nan), n, c)
        is_told = ~np.ma.getmaskarray(found) & is_known
        codes[rows[is_told]] = np.asarray(found.data)[is_told]
    return codes


class ThreeDiEncoder:
    """3Di letters as vectors: 1 in the place of the letter, 0 elsewhere; all 0 where there is none."""

    name = "3di"
    dim = len(LETTERS)
    identity = "3di: biotite, CB placed from the backbone"

    def embed(self, structures: Sequence[Backbone]) -> list[np.ndarray]:
        """Give a vector per residue.

        Parameters
        ----------
        structures
            Any.
        """
        return [(_codes(each)[:, None] == np.arange(len(LETTERS))).astype(np.float32) for each in structures]

    def states(self, structures: Sequence[Backbone]) -> tuple[Tensor, Tensor]:
        """Give the vectors padded, and which are residues.

        Parameters
        ----------
        structures
            Any.
        """
        vectors = [torch.from_numpy(each) for each in self.embed(structures)]
        return padded(vectors)


def padded(vectors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Give vectors in a rectangle ``[n, r, d]``, and which are residues, bool ``[n, r]``.

    Parameters
    ----------
    vectors
        Of each structure, ``[residues, d]``.
    """
    lengths = torch.tensor([len(each) for each in vectors])
    states = torch.nn.utils.rnn.pad_sequence(list(vectors), batch_first=True)
    is_residue = torch.arange(states.shape[1]) < lengths[:, None]
    return states, is_residue.to(states.device)
