"""Structure encoders behind one interface: backbones in, a vector per residue out."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from protlm.data.sampling import budget_batches
from protlm.errors import ConfigError, ModelError, did_you_mean
from protlm.models.gvp_transformer import GVPTransformer, GVPTransformerSettings
from protlm.models.loading import pick_device
from protlm.models.precomputed import PrecomputedVectors
from protlm.models.protein_mpnn import Encoded, ProteinMPNN, ProteinMPNNSettings
from protlm.models.protein_mpnn_features import batch_chains
from protlm.models.structure_batch import batch_atoms, lay_out
from protlm.models.three_di import ThreeDiEncoder, padded
from protlm.types.structure import Backbone

KEY = "structure_encoder"
"""Of the kind, in the config.json of a saved encoder."""
VECTOR_FILES = (".parquet", ".safetensors")
OTHER_RESIDUES = 16384
"""Of a batch on anything but a CPU."""
Origin = Literal["centroid", "file"]


class StructureEncoder(Protocol):
    """What users of structures ask of an encoder."""

    name: str
    dim: int

    @property
    def identity(self) -> str:
        """What its vectors depend on besides the structure: the same for the same vectors."""
        ...

    def embed(self, structures: Sequence[Backbone], /) -> list[np.ndarray]:
        """Give float32 ``[residues, dim]`` for each structure, in their order.

        Parameters
        ----------
        structures
            Backbones.
        """
        ...

    def states(self, structures: Sequence[Backbone], /) -> tuple[Tensor, Tensor]:
        """Give the same as one batch to train on: ``[n, r, dim]`` padded, and which are residues.

        Parameters
        ----------
        structures
            Backbones.
        """
        ...


class LearnedEncoder(ABC):
    """An encoder with weights.

    Parameters
    ----------
    module
        The network.
    name
        For messages and columns.
    origin
        Where coordinates are counted from. Residues that are not resolved stand at the origin, so that only
        ``"centroid"`` (of the resolved CA) makes the vectors independent of where the structure lies;
        ``"file"`` is what the published code does.
    """

    kind: str
    cpu_residues = 256
    """Of a batch on a CPU, whose cache larger ones leave."""
    module: Any
    dim: int

    def __init__(self, module: nn.Module, *, name: str, origin: Origin = "centroid") -> None:
        if origin not in get_args(Origin):
            raise ConfigError(
                f"unknown origin '{origin}'", hint=did_you_mean(str(origin), list(get_args(Origin)))
            )
        self.module, self.name, self.origin = module.eval(), name, origin

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.module.parameters()).device

    @property
    def settings(self) -> dict[str, Any]:
        """What is written to config.json."""
        return {KEY: self.kind, "arguments": self.module.arguments, "origin": self.origin}

    @property
    def identity(self) -> str:
        """SHA-256 of settings and weights, in hex."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode())
        for name, values in self.module.state_dict().items():
            digest.update(f"{name} {values.dtype} {tuple(values.shape)};".encode())
            digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def embed(
        self,
        structures: Sequence[Backbone],
        *,
        max_residues: int | None = None,
        on_batch: Callable[[int], None] | None = None,
    ) -> list[np.ndarray]:
        """Give float32 ``[residues, dim]`` for each structure, in their order.

        Parameters
        ----------
        structures
            Backbones; batches are of like length.
        max_residues
            Of a batch; bounds memory. By the device if `None`: small on a CPU, whose cache larger ones leave.
        on_batch
            Called with the number of structures finished.
        """
        found: list[np.ndarray] = [np.empty(0)] * len(structures)
        lengths = np.array([len(each) for each in structures], dtype=np.int64)
        budget = max_residues or (self.cpu_residues if self.device.type == "cpu" else OTHER_RESIDUES)
        for chosen in budget_batches(lengths, budget):
            with torch.inference_mode():
                vectors = self.vectors([structures[index] for index in chosen])
            for index, each in zip(chosen, vectors, strict=True):
                found[index] = each.float().cpu().numpy()
            if on_batch is not None:
                on_batch(len(chosen))
        return found

    def states(self, structures: Sequence[Backbone]) -> tuple[Tensor, Tensor]:
        """Give the same as one batch to train on: ``[n, r, dim]`` padded, and which are residues.

        Parameters
        ----------
        structures
            Backbones.
        """
        return padded(self.vectors(structures))

    @abstractmethod
    def vectors(self, structures: Sequence[Backbone]) -> list[Tensor]:
        """Give ``[residues, dim]`` for each structure, with gradients, as one batch.

        Parameters
        ----------
        structures
            Backbones.
        """

    def coordinates(self, backbone: Backbone) -> np.ndarray:
        """Give coordinates from the origin that was chosen.

        Parameters
        ----------
        backbone
            Any.
        """
        is_known = backbone.is_resolved
        if self.origin == "file" or not is_known.any():
            return backbone.coordinates
        centre = backbone.coordinates[is_known, 1].mean(axis=0, dtype=np.float64)
        return (backbone.coordinates - centre).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors.

        Parameters
        ----------
        folder
            Made if it is not there.
        """
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.settings, indent=2) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")
        weights = {name: each.contiguous() for name, each in self.module.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


class GVPTransformerStructures(LearnedEncoder):
    """The GVP-Transformer of ESM-IF1. Residues without coordinates keep their place, and have a vector.

    Parameters
    ----------
    module, name, origin
        As for `LearnedEncoder`.
    spacer
        Hidden tokens between two chains.
    """

    kind = "gvp-transformer"
    module: GVPTransformer

    def __init__(
        self, module: GVPTransformer, *, name: str, origin: Origin = "centroid", spacer: int = 10
    ) -> None:
        super().__init__(module, name=name, origin=origin)
        self.spacer = spacer
        self.dim = module.settings.encoder_embed_dim

    @property
    def settings(self) -> dict[str, Any]:
        """What is written to config.json."""
        return super().settings | {"spacer": self.spacer}

    def encode(self, structures: Sequence[Backbone]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Give the states of all tokens, which are hidden, and the tokens of the residues.

        Parameters
        ----------
        structures
            Backbones.
        """
        laid = [lay_out(self.coordinates(each), each.chain_index, spacer=self.spacer) for each in structures]
        batch = batch_atoms([atoms for atoms, _ in laid]).to(self.device)
        tokens = [torch.from_numpy(token).to(self.device) for _, token in laid]
        return self.module.encoder(batch), batch.is_hidden, tokens

    def vectors(self, structures: Sequence[Backbone]) -> list[Tensor]:
        """Give ``[residues, dim]`` for each structure, with gradients, as one batch.

        Parameters
        ----------
        structures
            Backbones.
        """
        states, _, tokens = self.encode(structures)
        return [row[token] for row, token in zip(states, tokens, strict=True)]


class ProteinMPNNStructures(LearnedEncoder):
    """ProteinMPNN. The vector of a residue that lacks N, CA, C or O is 0.

    Parameters
    ----------
    module, name, origin
        As for `LearnedEncoder`.
    chain_gap
        By how much the places of two chains lie apart.
    """

    kind = "protein-mpnn"
    cpu_residues = 96  # the edges of more leave the cache
    module: ProteinMPNN

    def __init__(
        self, module: ProteinMPNN, *, name: str, origin: Origin = "centroid", chain_gap: int = 100
    ) -> None:
        super().__init__(module, name=name, origin=origin)
        self.chain_gap = chain_gap
        self.dim = module.settings.hidden_dim

    @property
    def settings(self) -> dict[str, Any]:
        """What is written to config.json."""
        return super().settings | {"chain_gap": self.chain_gap}

    def encode(self, structures: Sequence[Backbone]) -> Encoded:
        """Give the states of residues and edges.

        Parameters
        ----------
        structures
            Backbones.
        """
        places = [np.arange(len(each)) + self.chain_gap * each.chain_index for each in structures]
        chains = [each.chain_index for each in structures]
        batch = batch_chains([self.coordinates(each) for each in structures], chains, places)
        return self.module.encode(batch.to(self.device))

    def vectors(self, structures: Sequence[Backbone]) -> list[Tensor]:
        """Give ``[residues, dim]`` for each structure, with gradients, as one batch.

        Parameters
        ----------
        structures
            Backbones.
        """
        nodes = self.encode(structures).nodes
        return [row[: len(each)] for row, each in zip(nodes, structures, strict=True)]


KINDS: dict[str, tuple[Any, Any, Any]] = {
    "gvp-transformer": (GVPTransformerStructures, GVPTransformer, GVPTransformerSettings),
    "protein-mpnn": (ProteinMPNNStructures, ProteinMPNN, ProteinMPNNSettings),
}


def new_structure_encoder(
    kind: str, arguments: Mapping[str, Any] | None = None, *, seed: int = 0, **options: Any
) -> LearnedEncoder:
    """Make an encoder with random weights.

    Parameters
    ----------
    kind
        ``"gvp-transformer"`` or ``"protein-mpnn"``.
    arguments
        Sizes, as in `GVPTransformerSettings` or `ProteinMPNNSettings`; the published ones where not given.
        ``decoder_layers`` or ``num_decoder_layers`` of 0 leaves the decoder out.
    seed
        Of the weights.
    **options
        ``origin``, and ``spacer`` or ``chain_gap``.

    Raises
    ------
    ConfigError
        If there is no such kind or argument.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown structure encoder '{kind}'", hint=did_you_mean(kind, KINDS))
    wrapper, network, sizes = KINDS[kind]
    known = [each.name for each in fields(sizes)]
    for name in arguments or {}:
        if name not in known:
            raise ConfigError(f"{kind} has no argument '{name}'", hint=did_you_mean(name, known))
    _check_arguments(kind, sizes(), arguments or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = network(sizes(**(arguments or {})))
    return wrapper(module, name=kind, **options)


def _check_arguments(kind: str, usual: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse sizes that are none; a number of layers may be 0."""
    for name, value in arguments.items():
        is_share = isinstance(getattr(usual, name), float)
        least = 0 if is_share or "layers" in name else 1
        kinds = (int, float) if is_share else int
        if isinstance(value, bool) or not isinstance(value, kinds) or value < least:
            raise ConfigError(
                f"{kind}: argument {name} is {value!r}",
                hint=f"expected a {'number' if is_share else 'whole number'} of at least {least}",
            )


def load_structure_encoder(name: str | Path, *, device: str = "auto") -> StructureEncoder:
    """Load an encoder.

    Parameters
    ----------
    name
        ``"3di"``; a folder that ``protlm convert`` or `LearnedEncoder.save` made; or a file of vectors by
        structure id, Parquet (columns ``id`` and ``vector``) or safetensors.
    device
        Of an encoder with weights; ``"auto"`` takes a GPU if there is one.

    Raises
    ------
    ModelError
        If it is none of these, or its weights do not fit its settings.
    """
    path = Path(name)
    if str(name) == ThreeDiEncoder.name:
        return ThreeDiEncoder()
    if path.suffix in VECTOR_FILES and path.is_file():
        return PrecomputedVectors.read(path)
    if not (path / "config.json").is_file():
        raise ModelError(
            f"there is no structure encoder '{name}'",
            hint="expected 3di, a folder that protlm convert made of a published checkpoint, or a Parquet or "
            f"safetensors file of vectors; new_structure_encoder makes one of {', '.join(KINDS)}",
        )
    encoder = _read_folder(path)
    encoder.module.to(pick_device(device))
    return encoder


def _read_folder(folder: Path) -> LearnedEncoder:
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, arguments = settings.pop(KEY), settings.pop("arguments")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(
            f"{folder / 'config.json'} is not that of a structure encoder ({error!r})",
            hint="language models go to --model; protlm convert makes structure encoders",
        ) from error
    try:
        encoder = new_structure_encoder(kind, arguments, **settings)
    except TypeError as error:
        raise ModelError(
            f"{folder / 'config.json'} has a setting that {kind} has not ({error})", hint="convert it again"
        ) from error
    encoder.name = folder.resolve().name
    path = folder / "model.safetensors"
    try:
        encoder.module.load_state_dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged or not there: {error}", hint="convert it again") from error
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[1:2]).strip() or str(error)
        raise ModelError(f"{path} does not fit its config.json: {first}", hint="convert it again") from error
    return encoder
