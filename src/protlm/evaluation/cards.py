"""Task cards: what is predicted from what, on which split, beside which baselines and published numbers."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from protlm.config import BaseConfig
from protlm.errors import ConfigError, did_you_mean
from protlm.evaluation.card_parts import (
    ByColumn,
    BySource,
    ChainSource,
    Classes,
    DataSource,
    Filter,
    Labels,
    Number,
    Published,
    SequenceTable,
    ShuffledPairs,
    Split,
    Target,
)
from protlm.statistics.classification import METRICS as BINARY_METRICS
from protlm.statistics.predictions import METRICS, OF_ONE_END, PRIMARY
from protlm.types.target import Best, Kind, Level

ANTIBODY_BASELINES = ("mutation_count", "v_gene", "ends", "ends_and_source")
BASELINES = (
    "majority",
    "length",
    "composition",
    "kmer",
    "one_hot",
    "nearest",
    "degree",
    "residue",
    "window",
    "position",
    *ANTIBODY_BASELINES,
)
"""What stands beside every model; see `protlm.evaluation.trivial`."""
_OF_RESIDUES = ("majority", "residue", "window", "position")


class TaskCard(BaseConfig):
    """A task that any model can be judged on. A change that moves results raises the version."""

    name: str
    version: Annotated[int, Field(ge=1)]
    title: str
    about: str
    """What a good result would mean, and what it would not."""
    level: Level = "pair"
    """What has one label: a record, a pair of chains, or each residue."""
    data: Annotated[tuple[DataSource, ...], Field(min_length=1)]
    availability: Literal["here", "download"] = "here"
    """Whether the developers' data folder has the files; `download` was proved on made-up files alone."""
    target: Target
    receptor: Literal["antibody", "none"] = "none"
    """Whether the chains of `DataSource.chains` are numbered and compared with germline genes."""
    crop: tuple[int, int] | None = None
    """First and last IMGT position to keep; chains that do not reach both are left out."""
    max_residues: Annotated[int, Field(ge=2)] | None = None
    """Of a chain; longer ones are treated as `long` says, and counted."""
    long: Literal["drop", "middle", "end"] = "drop"
    """Left out, or kept without the middle (as DeepLoc does) or the end."""
    max_records: Annotated[int, Field(ge=10)] | None = None
    """Of either side of a given split, or of all: a cut by content key to keep within two cores."""
    encoder: Literal["together", "separate"] = "together"
    """Whether the chains of a record are read by the model in one input, or each alone."""
    is_ordered: bool = True
    """Whether the chains of a pair have roles; of pairs without, features do not depend on the order."""
    macro_by: str | None = None
    """Column of the parts over which `macro_auroc` and `macro_auc01` are means, such as the epitope."""
    splits: Annotated[tuple[Split, ...], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=1)] = 3
    """Repetitions with other folds and, where there is a shuffle, another shuffle. Given splits have one."""
    num_draws: Annotated[int, Field(ge=10)] = 2000
    """Bootstrap samples."""
    metrics: tuple[str, ...] = ()
    """All of the kind, if not given."""
    rank_by: str = ""
    """The metric of verdicts; see `protlm.statistics.predictions.PRIMARY`."""
    baselines: tuple[str, ...] = ("majority", *ANTIBODY_BASELINES)
    published: tuple[Published, ...] = ()

    @property
    def kind(self) -> Kind:
        """What is predicted, in the words of `protlm.types.target`."""
        kind = self.target.kind
        return kind if kind in ("classes", "labels", "value") else "binary"

    @property
    def primary(self) -> str:
        """The metric that methods are ranked by."""
        return self.rank_by or PRIMARY[self.kind]

    @property
    def best(self) -> Best:
        """Which end of a value is the best; empty where the card does not say, or the target is no value."""
        return self.target.best if isinstance(self.target, Number) else ""

    @property
    def shown(self) -> tuple[str, ...]:
        """The metrics that are reported, the primary one first."""
        known = self.metrics or METRICS[self.kind]
        if not self.metrics and self.kind == "binary":
            known = (*BINARY_METRICS, *(("macro_auroc", "macro_auc01") if self.macro_by else ()))
        if not self.best:
            known = tuple(name for name in known if name != OF_ONE_END)
        return (self.primary, *(name for name in known if name != self.primary))

    @property
    def is_antibody_pairs(self) -> bool:
        """Whether records are a heavy and a light chain as `DataSource.heavy` and `light` name them."""
        return not any(source.chains or source.format != "rows" for source in self.data)

    def columns(self) -> tuple[str, ...]:
        """List the columns that splits and means ask for, each once."""
        names = [split.column for split in self.splits] + [self.macro_by]
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @model_validator(mode="after")
    def _fits_together(self) -> "TaskCard":
        known = METRICS[self.kind]
        asked = [*self.metrics, *([self.rank_by] if self.rank_by else [])]
        asked += [metric for each in self.published for metric in each.metrics]
        for what, given, names in (("metric", asked, known), ("baseline", self.baselines, BASELINES)):
            if unknown := sorted(set(given) - set(names)):
                raise ValueError(f"unknown {what} '{unknown[0]}'; {did_you_mean(unknown[0], names)}")
        if OF_ONE_END in asked and not self.best:
            raise ValueError(f"'{OF_ONE_END}' needs to know which end is the best: 'best: high' or 'low'")
        names = [source.name for source in self.data]
        if isinstance(self.target, BySource):
            used = set(self.target.positive + self.target.negative + self.target.without)
            if missing := sorted(used - set(names)):
                raise ValueError(f"the target names '{missing[0]}', which is not among the data")
        if len(set(names)) != len(names):
            raise ValueError("two data sources have one name")
        if self.is_antibody_pairs and self.level != "pair":
            raise ValueError("data without 'chains' are pairs of a heavy and a light chain: level 'pair'")
        self._check_level()
        return self

    def _check_level(self) -> None:
        if isinstance(self.target, ShuffledPairs | BySource) and not self.is_antibody_pairs:
            raise ValueError(f"a target '{self.target.kind}' is of heavy and light chains, not of 'chains'")
        if isinstance(self.target, ShuffledPairs):
            for split in self.splits:
                if "chain" not in split.by or split.is_given:
                    raise ValueError(
                        f"split '{split.name}' of shuffled pairs must keep a 'chain' in one fold"
                    )
        if self.level == "residue":
            if not isinstance(self.target, ByColumn | Classes):
                raise ValueError(f"residues have classes, not a target '{self.target.kind}'")
            if foreign := sorted(set(self.baselines) - set(_OF_RESIDUES)):
                raise ValueError(f"baseline '{foreign[0]}' is not of residues: {', '.join(_OF_RESIDUES)}")
        elif own := sorted(set(self.baselines) & set(_OF_RESIDUES[1:])):
            raise ValueError(f"baseline '{own[0]}' is of residues, and the card is of level '{self.level}'")


def shipped_cards() -> list[str]:
    """List the names of the cards that come with the package."""
    return sorted(path.name.removesuffix(".yaml") for path in _shipped())


def load_card(name: str) -> TaskCard:
    """Read a card by its name, or from a file of one's own.

    Parameters
    ----------
    name
        One of `shipped_cards`, or the path of a ``.yaml`` file.

    Raises
    ------
    ConfigError
        If there is no such card, or it is not valid.

    Examples
    --------
    >>> load_card("native-pairs-sabdab").target.kind
    'shuffled-pairs'
    """
    for path in _shipped():
        if path.name == f"{name}.yaml":
            return TaskCard.load(path)
    if not name.endswith((".yaml", ".yml")):
        known = did_you_mean(name, shipped_cards())
        raise ConfigError(f"there is no task card '{name}'", hint=f"{known}; or the path of a .yaml file")
    return TaskCard.load(name)


def _shipped() -> Iterator[Path]:
    folder = Path(str(files("protlm.evaluation") / "tasks"))
    return iter(sorted(folder.glob("*.yaml")))


__all__ = [
    "ANTIBODY_BASELINES",
    "BASELINES",
    "ByColumn",
    "BySource",
    "ChainSource",
    "Classes",
    "DataSource",
    "Filter",
    "Labels",
    "Number",
    "Published",
    "SequenceTable",
    "ShuffledPairs",
    "Split",
    "Target",
    "TaskCard",
    "load_card",
    "shipped_cards",
]
