"""Two towers and what brings them into one space: made by `protlm contrast`, saved and loaded again."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from protlm.data.sampling import budget_batches
from protlm.data.token_counts import record_lengths
from protlm.errors import ModelError
from protlm.models.adaptation import is_adapted, merged_weights, save_adapter
from protlm.models.features import with_random_weights
from protlm.models.loading import load_model
from protlm.models.precomputed import PrecomputedVectors
from protlm.models.projection import Projection, ProjectionConfig, Temperature, TemperatureConfig
from protlm.models.structure_encoder import (
    KEY,
    LearnedEncoder,
    StructureEncoder,
    load_structure_encoder,
    new_structure_encoder,
)
from protlm.models.towers import SequenceTower, StructureTower
from protlm.runs import Run
from protlm.types.batch import Batch
from protlm.types.record import Record
from protlm.types.structure import Backbone

SEQUENCE_FOLDER, STRUCTURE_FOLDER, HEADS_FOLDER = "model", "structure_encoder", "heads"
_HEADS = ("sequence_head", "structure_head", "temperature", "sequence.pooling")
_SETTINGS = {
    "sequence_head": ProjectionConfig,
    "structure_head": ProjectionConfig,
    "temperature": TemperatureConfig,
}
_FORMAT = 2


class DualTower(nn.Module):
    """Unit vectors of sequences and of structures in one space.

    Parameters
    ----------
    sequence, structure
        The towers.
    sequence_head, structure_head
        Settings of the heads; of one `dim`.
    temperature
        Settings.
    seed
        Of the heads' weights; the global generator is not touched.
    name
        For tables.
    """

    def __init__(
        self,
        sequence: SequenceTower,
        structure: StructureTower,
        *,
        sequence_head: ProjectionConfig,
        structure_head: ProjectionConfig,
        temperature: TemperatureConfig,
        seed: int = 0,
        name: str = "dual tower",
    ) -> None:
        super().__init__()
        self.sequence, self.structure, self.name = sequence, structure, name
        if sequence.segments != structure.segments:
            raise ModelError(
                f"the sequence tower pools {sequence.segments} segments, the other {structure.segments}",
                hint="give both the same number",
            )
        self.dim = sequence_head.dim * sequence.segments
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.sequence_head = Projection(sequence.width, sequence_head)
            self.structure_head = Projection(structure.width, structure_head)
        self.temperature = Temperature(temperature)
        self.to(sequence.encoder.device)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.sequence.encoder.device

    def of_sequences(self, inputs: Batch | Tensor) -> Float[Tensor, "n d"]:
        """Give unit vectors of records, with their gradient.

        Parameters
        ----------
        inputs
            A batch of the sequence tower, or its pooled states.
        """
        states = inputs.to(self.device) if isinstance(inputs, Tensor) else self.sequence(inputs)
        return self.sequence_head(states)

    def of_structures(self, inputs: Sequence[Backbone] | Tensor) -> Float[Tensor, "n d"]:
        """Give unit vectors of backbones, with their gradient.

        Parameters
        ----------
        inputs
            Backbones, or pooled states of the structure tower.
        """
        states = inputs.to(self.device) if isinstance(inputs, Tensor) else self.structure(inputs)
        return self.structure_head(states)

    def forward(
        self, sequences: Sequence[Batch | Tensor], structures: Sequence[Sequence[Backbone] | Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give unit vectors of both views, chunk by chunk, and the scale of their cosines.

        Of several chunks that are trained, only the vectors are held; the rest is computed anew in the
        backward pass, a chunk at a time, so that memory does not grow with their number.

        Parameters
        ----------
        sequences, structures
            Chunks, as for `of_sequences` and `of_structures`; the two may be cut differently.
        """
        first = _in_chunks(self.of_sequences, sequences, holds_all=not self.sequence.is_trained)
        second = _in_chunks(self.of_structures, structures, holds_all=not self.structure.is_trained)
        return first, second, self.temperature()

    def embed_sequences(
        self, records: Sequence[Record], *, on_batch: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Give float32 unit vectors ``[n, dim]`` of records, in their order.

        Parameters
        ----------
        records
            Any number.
        on_batch
            Called with the number of records finished.
        """
        lengths = record_lengths(records, self.sequence.encoder.layout) if len(records) else np.zeros(0, int)
        return self._embed(
            lengths,
            lambda rows: self.of_sequences(self.sequence.batch([records[row] for row in rows])),
            on_batch,
        )

    def embed_structures(
        self, backbones: Sequence[Backbone], *, on_batch: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Give float32 unit vectors ``[n, dim]`` of backbones, in their order.

        Parameters
        ----------
        backbones
            Any number.
        on_batch
            Called with the number of backbones finished.
        """
        lengths = np.array([len(backbone) for backbone in backbones], dtype=np.int64)
        return self._embed(
            lengths, lambda rows: self.of_structures([backbones[row] for row in rows]), on_batch
        )

    def _embed(
        self,
        lengths: np.ndarray,
        read: Callable[[list[int]], Tensor],
        on_batch: Callable[[int], None] | None,
    ) -> np.ndarray:
        was_training = self.training
        self.eval()
        found = np.zeros((len(lengths), self.dim), dtype=np.float32)
        for rows in budget_batches(lengths, self.sequence.encoder.token_budget) if len(lengths) else []:
            with torch.inference_mode():
                found[rows] = read(rows.tolist()).float().cpu().numpy()
            if on_batch is not None:
                on_batch(len(rows))
        self.train(was_training)
        return found

    def untrained(self, seed: int) -> "DualTower":
        """Give the same towers and heads with every weight drawn anew, as a baseline.

        Parameters
        ----------
        seed
            Of the weights.
        """
        segments = self.sequence.segments
        sequence = SequenceTower(
            with_random_weights(self.sequence.encoder, seed=seed), self.sequence.kind, segments
        )
        encoder = _with_new_weights(self.structure.encoder, seed)
        fresh = DualTower(
            sequence,
            StructureTower(encoder, is_trained=self.structure.is_trained, segments=segments),
            sequence_head=self.sequence_head.settings,
            structure_head=self.structure_head.settings,
            temperature=self.temperature.settings,
            seed=seed,
            name=f"{self.name}, untrained {seed}",
        )
        return fresh.eval()

    def save(self, run: Run, weights: Mapping[str, Tensor]) -> None:
        """Write towers and heads into a Run; the folder ``model`` loads as a plain language model everywhere.

        Parameters
        ----------
        run
            Of contrast.
        weights
            The whole state of this module.
        """
        encoder, module = self.sequence.encoder, self.sequence.encoder.module
        own = _below(weights, "sequence.encoder.module.")
        encoder.save(run.model_path, merged_weights(module, own))
        if is_adapted(module):
            save_adapter(module, own, run.path / "adapter")
        _save_structure(self.structure.encoder, run.path / STRUCTURE_FOLDER)
        folder = run.path / HEADS_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        heads = {name: each.contiguous().cpu() for name, each in weights.items() if name.startswith(_HEADS)}
        save_file(heads, folder / "heads.safetensors", metadata={"format": "pt"})
        (folder / "heads.json").write_text(json.dumps(self._facts(), indent=1))

    def _facts(self) -> dict[str, Any]:
        return {
            "format_version": _FORMAT,
            "pooling": self.sequence.kind,
            "segments": self.sequence.segments,
            "is_structure_trained": self.structure.is_trained,
            "sequence_head": self.sequence_head.settings.model_dump(),
            "structure_head": self.structure_head.settings.model_dump(),
            "temperature": self.temperature.settings.model_dump(),
        }


def load_dual_tower(run: Run | Path | str, *, device: str = "auto") -> DualTower:
    """Load what `protlm contrast` made.

    Parameters
    ----------
    run
        A finished Run.
    device
        As for `load_model`.

    Raises
    ------
    ModelError
        If it is no such Run, or a file of it is damaged. A weight that is missing is an error, never a
        number that was not trained.
    """
    path = run.path if isinstance(run, Run) else Path(run)
    check_dual_tower(path)
    folder = path / HEADS_FOLDER
    facts = _read_facts(folder / "heads.json")
    settings = _head_settings(folder / "heads.json", facts)
    encoder = load_model(path / SEQUENCE_FOLDER, device=device)
    encoder.name = path.resolve().name
    structures = _load_structure(path / STRUCTURE_FOLDER, device)
    segments = facts["segments"]
    model = DualTower(
        SequenceTower(encoder, facts["pooling"], segments),
        StructureTower(structures, is_trained=facts["is_structure_trained"], segments=segments),
        **settings,
        name=path.resolve().name,
    )
    file = folder / "heads.safetensors"
    try:
        weights = load_file(file, device=str(model.device))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is damaged or not there: {error}", hint="copy or train it again") from error
    expected = {name for name in model.state_dict() if name.startswith(_HEADS)}
    if expected != set(weights):
        odd = sorted(expected ^ set(weights))
        raise ModelError(
            f"{file} and heads.json do not agree about {', '.join(odd[:3])}", hint="train it again"
        )
    try:
        model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[1:2]).strip() or str(error)
        raise ModelError(f"{file} does not fit heads.json: {first}", hint="train it again") from error
    return model.eval()


def check_dual_tower(path: Path) -> None:
    """Refuse what is no finished Run of two towers, without loading it.

    Parameters
    ----------
    path
        A Run, or a copy of its folders.

    Raises
    ------
    ModelError
        If it is none, or not finished.
    """
    if Run.is_run(path) and (run := Run.open(path)).verb == "contrast" and not run.is_done:
        raise ModelError(
            f"the Run {path} is not finished", hint="run its contrast command again to resume it"
        )
    if not (path / HEADS_FOLDER / "heads.json").is_file():
        raise ModelError(f"'{path}' holds no pair of towers", hint="name a finished Run of protlm contrast")


def _read_facts(path: Path) -> dict[str, Any]:
    """Read what `DualTower.save` wrote of its parts."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        version = facts.get("format_version")
    except (ValueError, AttributeError, OSError) as error:
        raise ModelError(f"{path} is damaged: {error}", hint="copy or train it again") from error
    if version != _FORMAT:
        raise ModelError(f"{path} has format version {version}, expected {_FORMAT}", hint="train it again")
    needed = ("pooling", "segments", "is_structure_trained", *_SETTINGS)
    if missing := [name for name in needed if name not in facts]:
        raise ModelError(f"{path} has no '{missing[0]}'", hint="copy or train it again")
    return facts


def _head_settings(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {name: kind.model_validate(facts[name]) for name, kind in _SETTINGS.items()}
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"])
        raise ModelError(f"{path}: {place}: {first['msg']}", hint="copy or train it again") from error


def _in_chunks(
    read: Callable[[Any], Tensor], chunks: Sequence[Any], *, holds_all: bool
) -> Float[Tensor, "n d"]:
    if len(chunks) == 1 or holds_all or not torch.is_grad_enabled():
        return torch.cat([read(chunk) for chunk in chunks])
    return torch.cat([cast(Tensor, checkpoint(read, chunk, use_reentrant=False)) for chunk in chunks])


def _with_new_weights(encoder: StructureEncoder, seed: int) -> StructureEncoder:
    """Draw the weights of an encoder anew; one without any stays as it is."""
    if not isinstance(encoder, LearnedEncoder):
        return encoder
    options = {name: value for name, value in encoder.settings.items() if name not in (KEY, "arguments")}
    fresh = new_structure_encoder(encoder.kind, encoder.settings["arguments"], seed=seed, **options)
    fresh.module.to(encoder.device)
    return fresh


def _save_structure(encoder: StructureEncoder, folder: Path) -> None:
    """Keep an encoder with weights whole, as are vectors of a file, and of another its name."""
    if isinstance(encoder, LearnedEncoder):
        encoder.save(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"name": str(encoder.name)}
    if isinstance(encoder, PrecomputedVectors):
        facts = {"file": f"{encoder.name}.safetensors"}
        encoder.save(folder / facts["file"])
    (folder / "name.json").write_text(json.dumps(facts))


def _load_structure(folder: Path, device: str) -> StructureEncoder:
    named = folder / "name.json"
    if not named.is_file():
        return load_structure_encoder(folder, device=device)
    try:
        facts = json.loads(named.read_text(encoding="utf-8"))
        name = folder / facts["file"] if "file" in facts else facts["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{named} is damaged: {error!r}", hint="copy or train it again") from error
    return load_structure_encoder(name, device=device)


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): each for name, each in weights.items() if name.startswith(prefix)}
