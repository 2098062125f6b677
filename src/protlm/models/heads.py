"""Heads: what makes classes or numbers of the states of an encoder, and how a pair is put to it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from protlm.config import BaseConfig
from protlm.errors import DataError, ModelError
from protlm.models.pooling import HeadPooling, Pooling, ResidueStates
from protlm.types.record import Record, Role
from protlm.types.target import Target

PairEncoder = Literal["separate", "concatenated"]
FORMAT_VERSION = 1
_FACTS, _WEIGHTS = "head.json", "head.safetensors"
_FIRST_SD = 0.02  # as Hugging Face's heads: nearly no opinion at first


class HeadConfig(BaseConfig):
    """Shape of a head."""

    pooling: HeadPooling = "mean"
    """What stands for a chain: the mean over its residues, the begin token of its input, or a mean with
    learned weights. Residue level has none."""
    encoder: PairEncoder = "concatenated"
    """Pairs: both chains in one input, as the model's layout parts them, or each chain alone."""
    hidden_size: int | None = Field(default=None, ge=1)
    """Width of a layer in between; `null` is a linear head."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of what the head reads, and of the layer in between."""


@dataclass(frozen=True)
class HeadFacts:
    """What a saved head must know besides its weights."""

    target: Target
    settings: HeadConfig
    width: int
    """Of the states of the encoder."""
    num_chains: int = 1
    """Of each record."""
    both_orders: bool = False
    """Whether a pair is read in both orders, and the outputs averaged: where its chains have no roles."""
    mean: float = 0.0
    """Of the training values, for a target that is a number: outputs are (value - mean) / sd."""
    sd: float = 1.0

    @property
    def num_views(self) -> int:
        """Inputs per record."""
        return 2 if self.is_separate or self.both_orders else 1

    @property
    def is_separate(self) -> bool:
        """Whether each chain of a pair is an input of its own."""
        return self.target.level == "pair" and self.settings.encoder == "separate"

    @property
    def vectors_per_view(self) -> int:
        """Vectors that pooling makes of an input."""
        return 1 if self.is_separate or self.settings.pooling == "begin" else self.num_chains


def head_facts(target: Target, settings: HeadConfig, width: int, records: Sequence[Record]) -> HeadFacts:
    """Work out how records are put to a model, from the training records.

    Parameters
    ----------
    target
        What is learned.
    settings
        Shape of the head.
    width
        Of the encoder's states.
    records
        At least one.

    Raises
    ------
    DataError
        If records of one target differ in their number of chains.
    """
    counts = sorted({len(record.chains) for record in records})
    if target.level != "residue" and len(counts) != 1:
        raise DataError(
            f"records with {' and '.join(map(str, counts)) or 'no'} chains cannot share one head",
            hint="keep pairs and single chains apart",
        )
    is_pair = target.level == "pair" and settings.encoder == "concatenated"
    both = is_pair and not all(_has_roles(record) for record in records)
    return HeadFacts(target, settings, width, counts[0] if counts else 1, both_orders=both)


def views(records: Sequence[Record], facts: HeadFacts) -> list[Record]:
    """Give the inputs of each record, `HeadFacts.num_views` one after another.

    Parameters
    ----------
    records
        Of the level of the target.
    facts
        Of the head.

    Raises
    ------
    DataError
        If a record has another number of chains than those the head was made for.

    Examples
    --------
    >>> from protlm.types.record import Chain
    >>> facts = HeadFacts(Target("value", "pair"), HeadConfig(), 8, num_chains=2, both_orders=True)
    >>> pair = Record("ab", (Chain("QV"), Chain("D")))
    >>> [[chain.residues for chain in view.chains] for view in views([pair], facts)]
    [['QV', 'D'], ['D', 'QV']]
    """
    if facts.target.level != "residue":
        _check_chains(records, facts)
    if facts.target.level != "pair":
        return list(records)
    made = []
    for record in records:
        if facts.is_separate:
            made += [replace(record, chains=(chain,)) for chain in record.chains]
        elif facts.both_orders:
            made += [record, replace(record, chains=record.chains[::-1])]
        else:
            made.append(replace(record, chains=tuple(sorted(record.chains, key=lambda chain: chain.role))))
    return made


class Head(nn.Module):
    """Pooling and one or two linear layers.

    Parameters
    ----------
    facts
        Target and shape.
    seed
        Of the weights; drawn without touching the global generator.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, facts: HeadFacts, *, seed: int = 0) -> None:
        super().__init__()
        self.facts = facts
        settings, width = facts.settings, _input_width(facts)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.pooling = Pooling(settings.pooling, facts.width)
            self.layers = _layers(width, settings, facts.target.num_outputs)
        self.register_buffer("shift", torch.zeros(facts.width))
        self.register_buffer("scale", torch.ones(facts.width))

    def standardise(self, values: Float[Tensor, "n d"]) -> None:
        """Shift and scale what is read to mean 0 and standard deviation 1 from now on.

        Parameters
        ----------
        values
            What the head reads of the training records.
        """
        deviation = values.std(dim=0, correction=0)
        self.shift.copy_(values.mean(dim=0))
        self.scale.copy_(1 / torch.where(deviation > 1e-6, deviation, 1.0))

    def begin_with(self, outputs: Float[Tensor, " o"]) -> None:
        """Give these outputs where nothing speaks for another, as before training.

        Parameters
        ----------
        outputs
            Such as the logarithms of the shares of the classes.
        """
        with torch.no_grad():
            self.layers[-1].bias.copy_(outputs)  # type: ignore[operator, union-attr]

    def forward(self, states: ResidueStates | Float[Tensor, "u d"]) -> Float[Tensor, "n o"]:
        """Give logits, or scaled numbers: of each record, or of each residue of all chains laid end to end.

        Parameters
        ----------
        states
            Of the residues of all inputs of all records; or vectors that are pooled already.
        """
        if isinstance(states, ResidueStates):
            states = replace(states, values=self._scaled(states.values))
            if self.facts.target.level == "residue":
                outputs = self.layers(states.values)
                return torch.repeat_interleave(outputs, states.sizes.long(), dim=0)
            pooled = self.pooling(states)
        else:
            pooled = self._scaled(states)
        return self._of_records(pooled)

    def _scaled(self, values: Tensor) -> Tensor:
        return (values - self.shift) * self.scale

    def _of_records(self, pooled: Float[Tensor, "u d"]) -> Tensor:
        facts = self.facts
        by_view = pooled.reshape(-1, facts.num_views, facts.vectors_per_view * facts.width)
        if facts.is_separate:
            first, second = by_view[:, 0], by_view[:, 1]
            return self.layers(torch.cat([first + second, (first - second).abs(), first * second], dim=1))
        return self.layers(by_view).mean(dim=1)

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write ``head.safetensors`` and ``head.json``.

        Parameters
        ----------
        folder
            Made if it is not there.
        weights
            By name, where they are not the module's own as they are.
        """
        folder.mkdir(parents=True, exist_ok=True)
        tensors = self.state_dict() if weights is None else weights
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, folder / _WEIGHTS)
        facts = asdict(replace(self.facts, settings=None))  # type: ignore[arg-type]
        facts |= {"format_version": FORMAT_VERSION, "settings": self.facts.settings.model_dump(mode="json")}
        (folder / _FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_head(folder: Path) -> Head:
    """Load what `Head.save` wrote.

    Parameters
    ----------
    folder
        With ``head.json`` and ``head.safetensors``.

    Raises
    ------
    ModelError
        If it is not there, or of a later format.
    """
    if not (folder / _FACTS).is_file():
        raise ModelError(f"{folder} has no {_FACTS}", hint="expected the head of a Run of protlm finetune")
    facts: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    if (version := facts.pop("format_version", 0)) > FORMAT_VERSION:
        raise ModelError(
            f"{folder} has head format {version}; this protlm reads up to {FORMAT_VERSION}",
            hint="upgrade protlm",
        )
    target = {**facts.pop("target")}
    target["classes"] = tuple(target["classes"])
    settings = HeadConfig.from_dict(facts.pop("settings"), source=str(folder / _FACTS))
    head = Head(HeadFacts(target=Target(**target), settings=settings, **facts))
    head.load_state_dict(load_file(folder / _WEIGHTS))
    return head.eval()


def _input_width(facts: HeadFacts) -> int:
    if facts.target.level == "residue":
        return facts.width
    return facts.width * (3 if facts.is_separate else facts.vectors_per_view)


def _layers(width: int, settings: HeadConfig, num_outputs: int) -> nn.Sequential:
    parts: list[nn.Module] = [nn.Dropout(settings.dropout)]
    if settings.hidden_size is not None:
        parts += [nn.Linear(width, settings.hidden_size), nn.GELU(), nn.Dropout(settings.dropout)]
        width = settings.hidden_size
    last = nn.Linear(width, num_outputs)
    nn.init.normal_(last.weight, std=_FIRST_SD)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*parts, last)


def _has_roles(record: Record) -> bool:
    roles = [chain.role for chain in record.chains]
    return Role.OTHER not in roles and len(set(roles)) == len(roles)


def _check_chains(records: Sequence[Record], facts: HeadFacts) -> None:
    for record in records:
        if len(record.chains) != facts.num_chains:
            raise DataError(
                f"record '{record.id}' has {len(record.chains)} chains, and the head was made for "
                f"{facts.num_chains}",
                hint="give records like those it was trained on",
            )


def __getattr__(name: str) -> Any:
    if name in ("Predictor", "load_predictor"):  # the names that other modules were promised here
        from protlm.models import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
