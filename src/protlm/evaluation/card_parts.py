"""Parts of a task card: files and filters, targets, splits, published numbers."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from protlm.config import BaseConfig, Rate
from protlm.data.pairs import Negatives
from protlm.types.target import Best

OWN_KEYS = ("clonotype", "chain", "cluster")
"""Keys of a split that are no columns."""


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


class ChainSource(BaseConfig):
    """Where the residues of one chain are."""

    column: str
    """Has the residues, or the name of a protein in `table`."""
    role: Literal["other", "heavy", "light", "alpha", "beta", "gamma", "delta"] = "other"
    table: str | None = None
    """One of `DataSource.tables`."""


class SequenceTable(BaseConfig):
    """A file of proteins that the rows of another one name."""

    file: str
    """Path below the data folder: FASTA, or a table."""
    id: str = "id"
    """Column of the name; of FASTA the first word of the header."""
    sequence: str = "sequence"
    url: str | None = None
    """Where the public copy lives."""
    sha256: str | None = None


class DataSource(BaseConfig):
    """One file of a card and how to read it."""

    name: str
    file: str
    """Path below the data folder: CSV, TSV, Parquet, other text with `separator`, or FASTA with `header`."""
    format: Literal["rows", "skempi"] = "rows"
    """What a row is: a record, or a mutant of SKEMPI, whose residues are in the table `structures`."""
    chains: tuple[ChainSource, ...] = ()
    """What a record is made of. Not given: one heavy and one light chain, numbered."""
    tables: dict[str, SequenceTable] = Field(default_factory=dict)
    """Files of proteins, by name."""
    wild_type: str | None = None
    """For rows that are variants of one protein; `chains` then names the column of the variants."""
    separator: str | None = None
    """Of text that is neither CSV nor TSV."""
    columns: tuple[str, ...] = ()
    """Names of the columns of text without a header line."""
    header: str | None = None
    """Of FASTA: a regular expression whose named groups become columns, as `sequence` does."""
    constants: dict[str, str] = Field(default_factory=dict)
    """Columns that have one value in all rows, such as the side of a split that the file is."""
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
    url: str | None = None
    """Where a public copy lives that is read as it is, for `protlm fetch`."""
    member: str | None = None
    """Path of the file in the archive at `url`."""
    url_sha256: str | None = None
    """Of what is at `url`, where known."""

    @field_validator("header")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        return None if value is None else _regular_expression(value)

    @model_validator(mode="after")
    def _tables_are_there(self) -> "DataSource":
        if self.format == "skempi" and "structures" not in self.tables:
            raise ValueError("the format 'skempi' needs the table 'structures'")
        for chain in self.chains:
            if chain.table is not None and chain.table not in self.tables:
                raise ValueError(
                    f"chain '{chain.column}' asks for the table '{chain.table}', which is not given"
                )
        if self.wild_type is not None and len(self.chains) != 1:
            raise ValueError("variants of a wild type have one chain, whose column is that of the variants")
        return self


class ShuffledPairs(BaseConfig):
    """Pairs with an exchanged light chain (1, the positive class) against native pairs (0)."""

    kind: Literal["shuffled-pairs"] = "shuffled-pairs"
    negatives: Negatives = "random"
    within: str | None = None
    """Column whose values are not mixed by a shuffle, such as the organism."""


class ByColumn(BaseConfig):
    """Two classes by the value of a column; of residues by the letter of each."""

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


class Classes(BaseConfig):
    """Several classes by the value of a column; of residues by the letter of each."""

    kind: Literal["classes"] = "classes"
    column: str
    classes: tuple[str, ...] = ()
    """Those that count, in order; all that are there, if not given. Other values are left out and counted."""
    mask: str | None = None
    """Of residues: a column with a letter per residue, of which `known` are used."""
    known: str = "1"


class Labels(BaseConfig):
    """Any of several labels: a column of several values in a cell."""

    kind: Literal["labels"] = "labels"
    column: str
    separator: str = ";"
    classes: tuple[str, ...] = ()


class Number(BaseConfig):
    """A number in a column."""

    kind: Literal["value"] = "value"
    column: str
    transform: Literal["none", "log10", "negative-log10"] = "none"
    factor: Annotated[float, Field(gt=0)] = 1.0
    """Multiplied before the logarithm: 1e-9 of a constant in nM gives M."""
    best: Best = ""
    """Which end is the best after the transform, ``high`` or ``low``: what `top_recall` asks for."""


Target = Annotated[
    ShuffledPairs | ByColumn | BySource | Classes | Labels | Number, Field(discriminator="kind")
]


class Split(BaseConfig):
    """Which records may not be on two sides: folds of groups, or sides that a column gives."""

    name: str
    by: tuple[str, ...] = ()
    """Keys that are joined to connected components: ``clonotype``, ``chain``, ``cluster``, or columns. Of a
    given split they are the units of resampling; none: each row."""
    column: str | None = None
    """Says the side of each row: with `train` and `test` these, without them each value is a fold."""
    train: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    """What chooses the strength of the penalty; folds of the training rows, if not given."""
    test: tuple[str, ...] = ()
    apart: bool = False
    """Of pairs, with `by: [cluster]`: a third of the clusters is held out, other ones by each seed; pairs
    with one protein on either side are left out (class C3 of Park & Marcotte 2012)."""
    random: bool = False
    """Folds of single rows. To be named, because rows are seldom independent."""
    separators: dict[str, str] = Field(default_factory=dict)
    """For columns of `by` with several values in a cell, such as two publications: a regular expression of
    what is between them. Records that share one of the values stay together."""
    folds: Annotated[int, Field(ge=3)] = 5
    tested: Annotated[int, Field(ge=1)] | None = None
    """How many folds are predicted, from all others; all, if not given."""
    inner: Literal["all", "next"] = "all"
    """Which folds choose the strength of the penalty: each of the others in turn, or the next one alone."""
    cdr3_identity: Rate = 0.8
    """Of the key ``clonotype``."""
    cluster_identity: Rate = 0.25
    """Of the key ``cluster``: MMseqs2, with `cluster_coverage` of both sequences."""
    cluster_coverage: Rate = 0.8
    stratify: bool = True
    """Whether the folds have alike shares of the classes."""

    @property
    def is_given(self) -> bool:
        """Whether the data say the side of each row."""
        return self.column is not None

    @model_validator(mode="after")
    def _fits_together(self) -> "Split":
        for column, separator in self.separators.items():
            if column not in self.by or column in OWN_KEYS:
                raise ValueError(f"a separator for '{column}', which is no column of 'by' of '{self.name}'")
            _regular_expression(separator)
        if not (self.by or self.column or self.random):
            raise ValueError(f"split '{self.name}' says neither 'by' nor 'column'; name 'random: true'")
        if bool(self.train) != bool(self.test) or (self.train and not self.column):
            raise ValueError(f"split '{self.name}': 'column', 'train' and 'test' go together")
        if self.apart and self.by != ("cluster",):
            raise ValueError(f"split '{self.name}': 'apart' is of clusters: 'by: [cluster]'")
        sides = [*self.train, *self.valid, *self.test]
        if repeated := sorted({side for side in sides if sides.count(side) > 1}):
            raise ValueError(f"split '{self.name}' has {repeated[0]!r} on two sides")
        return self


class Published(BaseConfig):
    """Numbers from the literature; not on these data, so only for orientation."""

    model: str
    data: str
    metrics: dict[str, float]
    reference: str
