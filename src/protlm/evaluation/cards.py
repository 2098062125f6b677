"""Task cards: what is predicted from what, on which split, beside which baselines and published numbers."""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from protlm.config import BaseConfig, Rate
from protlm.data.pairs import Negatives
from protlm.errors import ConfigError, did_you_mean
from protlm.statistics.classification import METRICS

BASELINES = ("majority", "mutation_count", "v_gene", "ends", "ends_and_source")
"""What stands beside every model; see `protlm.evaluation.trivial`."""


def _regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from None
    return value


class Filter(BaseConfig):
    """Which rows stay. A row that fails is counted under the filter's name."""

    name: str
    """For messages, and for `--skip-filter`."""
    column: str
    matches: str
    """A regular expression that is searched for in the trimmed text of the column."""
    negate: bool = False
    """Keep the rows that do not match."""

    @field_validator("matches")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return _regular_expression(value)


class DataSource(BaseConfig):
    """One file of a card and how to read it."""

    name: str
    file: str
    """Path below the data folder."""
    heavy: str | None = None
    """Column of the heavy chain; looked for by its usual names if not given."""
    light: str | None = None
    id: str | None = None
    genes: dict[Literal["heavy_v", "heavy_j", "light_v", "light_j"], str] = Field(default_factory=dict)
    """Columns of gene calls, where they do not have their usual names."""
    source: str | None = None
    """Column that says where a row is from, such as its publication; the file itself if not given."""
    filters: tuple[Filter, ...] = ()
    human: Filter | None = None
    """Which rows are compared with human germline genes; all, if not given, where most look human."""
    licence: str
    citation: str
    origin: str
    """Where the file is from: repository, commit and path."""
    sha256: str | None = None
    """Of the file that the card was made with; another one is said, not refused."""


class ShuffledPairs(BaseConfig):
    """Pairs with an exchanged light chain (1, the positive class) against native pairs (0)."""

    kind: Literal["shuffled-pairs"] = "shuffled-pairs"
    negatives: Negatives = "random"
    within: str | None = None
    """Column whose values are not mixed by a shuffle, such as the organism."""


class ByColumn(BaseConfig):
    """Classes by the value of a column."""

    kind: Literal["column"] = "column"
    column: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]

    @model_validator(mode="after")
    def _is_disjoint(self) -> "ByColumn":
        if both := sorted(set(self.positive) & set(self.negative)):
            raise ValueError(f"{both[0]!r} is in both classes")
        return self


class BySource(BaseConfig):
    """Classes by the file that a row is from: a demonstration of confounding, whatever comes out."""

    kind: Literal["source"] = "source"
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    without: tuple[str, ...] = ()
    """Files whose heavy CDR3s are left out of the negative class, as those of the positive class are."""


Target = Annotated[ShuffledPairs | ByColumn | BySource, Field(discriminator="kind")]


class Split(BaseConfig):
    """Which records may not be on two sides."""

    name: str
    by: tuple[str, ...]
    """Keys that are joined to connected components: ``clonotype``, ``chain``, or columns."""
    separators: dict[str, str] = Field(default_factory=dict)
    """For columns of `by` with several values in a cell, such as two publications: a regular expression of
    what is between them. Records that share one of the values stay together."""
    folds: Annotated[int, Field(ge=3)] = 5
    cdr3_identity: Rate = 0.8
    """Of the key ``clonotype``."""
    stratify: bool = True
    """Whether the folds have alike shares of the classes."""

    @model_validator(mode="after")
    def _separators_fit(self) -> "Split":
        for column, separator in self.separators.items():
            if column not in self.by or column in ("clonotype", "chain"):
                raise ValueError(f"a separator for '{column}', which is no column of 'by' of '{self.name}'")
            _regular_expression(separator)
        return self


class Published(BaseConfig):
    """Numbers from the literature; not on these data, so only for orientation."""

    model: str
    data: str
    metrics: dict[str, float]
    reference: str

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        if unknown := sorted(set(value) - set(METRICS)):
            raise ValueError(f"unknown metric '{unknown[0]}'; {did_you_mean(unknown[0], METRICS)}")
        return value


class TaskCard(BaseConfig):
    """A task that any model can be judged on. A change that moves results raises the version."""

    name: str
    version: Annotated[int, Field(ge=1)]
    title: str
    about: str
    """What a good result would mean, and what it would not."""
    level: Literal["pair"] = "pair"
    """What has one label: a pair of a heavy and a light chain."""
    data: Annotated[tuple[DataSource, ...], Field(min_length=1)]
    target: Target
    crop: tuple[int, int] | None = None
    """First and last IMGT position to keep; chains that do not reach both are left out."""
    splits: Annotated[tuple[Split, ...], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=1)] = 3
    """Repetitions with other folds and, where there is a shuffle, another shuffle."""
    metrics: tuple[str, ...] = METRICS
    baselines: tuple[str, ...] = BASELINES
    published: tuple[Published, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> "TaskCard":
        for what, given, known in (
            ("metric", self.metrics, METRICS),
            ("baseline", self.baselines, BASELINES),
        ):
            if unknown := sorted(set(given) - set(known)):
                raise ValueError(f"unknown {what} '{unknown[0]}'; {did_you_mean(unknown[0], known)}")
        names = [source.name for source in self.data]
        if isinstance(self.target, BySource):
            used = set(self.target.positive + self.target.negative + self.target.without)
            if missing := sorted(used - set(names)):
                raise ValueError(f"the target names '{missing[0]}', which is not among the data")
        if len(set(names)) != len(names):
            raise ValueError("two data sources have one name")
        if isinstance(self.target, ShuffledPairs):
            for split in self.splits:
                if "chain" not in split.by:
                    raise ValueError(
                        f"split '{split.name}' of shuffled pairs must keep a 'chain' in one fold"
                    )
        return self


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
