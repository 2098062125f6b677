"""The two towers of contrastive training: a language model of sequences, an encoder of structures."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.data.roles import with_roles
from protlm.errors import ModelError
from protlm.models.language_model import LanguageModel
from protlm.models.pooling import Pooling, ResidueStates, begin_states, in_segments
from protlm.models.residue_level import require_residue_level
from protlm.models.structure_encoder import StructureEncoder
from protlm.types.batch import Batch
from protlm.types.record import Record
from protlm.types.structure import ATOMS, Backbone

TowerPooling = Literal["mean", "begin", "attention"]


class SequenceTower(nn.Module):
    """A vector for each segment of a record from a language model, over the residues of all its chains.

    Parameters
    ----------
    encoder
        Its own head is not used.
    pooling
        ``mean`` or ``attention`` over residues, or ``begin`` for the state of the begin token.
    segments
        Equal parts of a record, its chains laid end to end, that are pooled apart; see `in_segments`.
    """

    def __init__(self, encoder: LanguageModel, pooling: TowerPooling, segments: int = 1) -> None:
        super().__init__()
        if pooling == "begin" and not encoder.layout.begin:
            raise ModelError(f"model '{encoder.name}' has no begin token", hint="pool by the mean instead")
        if pooling == "begin" and segments > 1:
            raise ModelError(
                f"the begin token is one, and {segments} segments are asked for", hint="pool by the mean"
            )
        if segments > 1:
            require_residue_level(encoder, f"pooling {segments} segments")
        self.encoder, self.segments = encoder, segments
        self.kind: TowerPooling = pooling
        self.width = int(encoder.module.config.hidden_size)
        self.pooling = Pooling(pooling, self.width)
        _freeze_unread(encoder)

    @property
    def is_trained(self) -> bool:
        """Whether any weight of it is."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def batch(self, records: Sequence[Record]) -> Batch:
        """Lay out records, as `forward` takes them.

        Parameters
        ----------
        records
            Any.
        """
        layout = self.encoder.layout
        return collate(flatten_records(with_roles(records, layout)), layout)

    def forward(self, batch: Batch) -> Float[Tensor, "n k w"]:
        """Give the pooled states of the segments of each record.

        Parameters
        ----------
        batch
            From `batch`.
        """
        batch = batch.to(self.encoder.device)
        hidden = self.encoder.hidden(batch).float()
        if self.kind == "begin":
            return begin_states(hidden, batch)[:, None]
        inside = batch.is_residue
        sizes = (batch.residue_stop - batch.residue_start)[inside].to(hidden.dtype)
        record = batch.sequence_index.long()[inside]
        states = ResidueStates(hidden[inside], record, sizes, batch.num_sequences)
        return self.pooling(in_segments(states, self.segments)).unflatten(0, (-1, self.segments))


class StructureTower(nn.Module):
    """A vector for each segment of a backbone: the mean over residues whose N, CA and C are resolved.

    Parameters
    ----------
    encoder
        Any; one with weights becomes part of this module.
    is_trained
        Whether its weights are.
    segments
        As for `SequenceTower`; residues that are not resolved have their place too.
    """

    def __init__(self, encoder: StructureEncoder, *, is_trained: bool, segments: int = 1) -> None:
        super().__init__()
        self.encoder, self.is_trained, self.width = encoder, is_trained, encoder.dim
        self.segments = segments
        self.network: nn.Module | None = getattr(encoder, "module", None)
        if is_trained and self.network is None:
            raise ModelError(
                f"structure encoder '{encoder.name}' has no weights to train",
                hint="set structure.is_trained to false (--freeze-structure), or name a network: "
                "gvp-transformer or protein-mpnn",
            )
        if self.network is not None:
            self.network.requires_grad_(is_trained)
        if is_trained and self.network is not None:
            _freeze_without_gradient(self.network, encoder)

    def train(self, mode: bool = True) -> "StructureTower":
        """Switch dropout and noise, which a frozen encoder never has.

        Parameters
        ----------
        mode
            Whether to train.
        """
        super().train(mode)
        if self.network is not None and not self.is_trained:
            self.network.eval()
        return self

    def forward(self, backbones: Sequence[Backbone]) -> Float[Tensor, "n k w"]:
        """Give the pooled states of the segments of each backbone; 0 where nothing is resolved.

        Parameters
        ----------
        backbones
            At least one.
        """
        with torch.set_grad_enabled(self.is_trained and torch.is_grad_enabled()):
            states, is_residue = self.encoder.states(backbones)
        resolved = torch.from_numpy(np.concatenate([each.is_resolved for each in backbones]))
        row = torch.nonzero(is_residue)[:, 0]
        sizes = resolved.to(states.device, states.dtype)
        found = ResidueStates(states[is_residue], row, sizes, len(backbones))
        return in_segments(found, self.segments).means().unflatten(0, (-1, self.segments))


def _freeze_unread(encoder: LanguageModel) -> None:
    """Freeze the weights of the language head, which nothing here reads, but those it shares."""
    head = getattr(encoder.module, "lm_head", None)
    shared = {id(parameter) for parameter in encoder.module.base_model.parameters()}
    for parameter in [] if head is None else head.parameters():
        if id(parameter) not in shared:
            parameter.requires_grad_(False)


def _freeze_without_gradient(network: nn.Module, encoder: StructureEncoder) -> None:
    """Freeze what no vector depends on, such as a decoder; several processes would wait for its gradient."""
    atoms = np.random.default_rng(0).normal(scale=5.0, size=(4, len(ATOMS), 3)).astype(np.float32)
    probe = Backbone("probe", "AAAA", atoms, np.zeros(4, dtype=np.int64), ("A",))
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        states, _ = encoder.states([probe])
        gradients = torch.autograd.grad(states.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
