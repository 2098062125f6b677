"""Settings of `protlm finetune`."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from protlm.config import AnyConfig, BaseConfig, one_of
from protlm.models.adaptation import FrozenAdaptation, fine_tunings
from protlm.models.heads import HeadConfig
from protlm.objectives.supervised import Regression
from protlm.training.loop import TrainingConfig
from protlm.types.target import Kind, Level

ALL = "all"
"""The subset that has every training record."""

Share = Annotated[str, Field(pattern=r"^([1-9]|[1-9][0-9])%$")]
"""A part of the training records, from 1% to 99%."""

_COMMON: dict[str, Any] = {"save_every": 200, "tensorboard": False}
_OFTEN = {"eval_every": 10, "patience": 20}  # a head on features is judged in no time
_SELDOM = {"eval_every": 40, "patience": 5}
_OPTIMIZER = {"schedule": "cosine", "warmup_steps": 20}
TRAINING_DEFAULTS: dict[str, dict[str, Any]] = {
    "frozen": {"max_steps": 1000, "step_records": 64, "optimizer": {"learning_rate": 1e-3}, **_OFTEN},
    "last": {"max_steps": 400, "step_tokens": 8192, "optimizer": {"learning_rate": 5e-4}, **_SELDOM},
    "lora": {"max_steps": 400, "step_tokens": 8192, "optimizer": {"learning_rate": 1e-3}, **_SELDOM},
    "full": {"max_steps": 400, "step_tokens": 8192, "optimizer": {"learning_rate": 3e-4}, **_SELDOM},
}
"""What `training` is where it is not said, by what is trained."""


class LabelConfig(BaseConfig):
    """Where records and labels are, and what is done with those that do not fit."""

    input: str | None = None
    """A table (CSV, TSV, Parquet) with label columns, or a corpus with labels."""
    target: str = "label"
    """The column that is learned."""
    task: str | None = None
    """A task card in place of all that: its data, target and split."""
    task_data: tuple[str, ...] = ()
    """Folders or files of the card, as `protlm evaluate tasks --data` takes them."""
    task_split: str | None = None
    """Which split of the card; its first one, if not given."""
    max_records: int | None = Field(default=None, ge=10)
    """Of a card: a cut of its records by their content."""
    best: Literal["high", "low"] | None = None
    """Of a value: which end is the best (`low` of a Kd), for `top_recall`. A card may say it."""
    replicates: Literal["mean", "keep", "error"] = "mean"
    """Equal inputs with several values: average them, keep them on one side and in one subset, or stop."""
    wild_type: str | None = None
    """Of records that are its variants, for their likelihood: a file or residues. A card may have it."""
    level: Level = "sequence"
    kind: Kind | Literal["auto"] = "auto"
    """`auto`: two values are binary, other text is classes, numbers are numbers; what it is, is said."""
    classes: tuple[str, ...] = ()
    """The classes in order, of a binary target the positive one last; sorted, if not given."""
    separator: str = ";"
    """Between the labels of a record (kind `labels`)."""
    mask: str | None = None
    """Residue level: a column with 1 where a residue counts."""
    unlabelled: str = ""
    """Residue level: letters that stand for no label."""
    sequence: str | None = None
    heavy: str | None = None
    light: str | None = None
    first: str | None = None
    """Column with the first chain of a pair that has no roles."""
    second: str | None = None
    split: str | None = None
    """A column with train, valid and test, or with names of folds; or a table of `protlm split`."""
    valid: str | None = None
    """Another table to choose the weights by."""
    test: str | None = None
    """Another table to judge on."""
    holdout: float | None = Field(default=None, gt=0, lt=1)
    """Share of records to judge on."""
    folds: int | None = Field(default=None, ge=2)
    """Judge each record once by a model that was trained without its fold."""
    by: tuple[str, ...] = ()
    """What stays on one side: clonotype, chain, group, cluster or columns; joined to connected components."""
    cluster_identity: float = Field(default=0.3, gt=0, le=1)
    """Of the key `cluster` (MMseqs2)."""
    random: bool = False
    """Split single records, whatever they share."""
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share of the training records to choose the weights by, if no table is given; 0 trains to the end."""
    missing: Literal["error", "drop"] = "error"
    """Records without a label: stop, or leave out and count."""
    rare: Literal["error", "drop"] = "error"
    """Classes with one record, which no split can learn and judge: stop, or leave out and count."""
    straddling: Literal["keep", "drop", "error"] = "keep"
    """Pairs to judge on of which a chain is in training: keep and count, leave out and count, or stop."""
    long_records: Literal["error", "drop", "cut"] = "error"
    """Records over the limit: stop, leave out and count, or keep the first residues and count."""
    max_residues: int | None = Field(default=None, ge=1)
    """The limit, where it is below the model's, or the model has none."""
    seed: int = 0
    """Of folds and held-out records."""

    @model_validator(mode="after")
    def _check_source(self) -> "LabelConfig":
        if (self.input is None) == (self.task is None):
            raise ValueError("say what to learn: either input and target, or a task")
        if self.task is not None and not self.task_data:
            raise ValueError("a task needs task_data, the folder that its files are in")
        if self.task is not None and self.replicates != "mean":
            raise ValueError("a task averages equal records; replicates is of a table")
        return self


class LossConfig(BaseConfig):
    """What is minimised."""

    weights: Literal["none", "balanced"] | dict[str, float] = "none"
    """Of classes; `balanced` makes them count alike."""
    regression: Regression = "squared"


class FinetuneConfig(BaseConfig):
    """Settings of `protlm finetune`."""

    data: LabelConfig
    model: str
    """A Run, folder or name."""
    random_weights: bool = False
    """Take the same network with fresh weights, as a control."""
    shuffle_labels: bool = False
    """Exchange the labels of the training records, as a control."""
    head: HeadConfig = HeadConfig()
    adapt: Annotated[AnyConfig, one_of(fine_tunings, "frozen")] = FrozenAdaptation.Config()
    """What is trained below the head: nothing, the last layers, all, or low-rank adapters."""
    loss: LossConfig = LossConfig()
    watch: Literal["loss", "metric"] = "loss"
    """What chooses the weights on the validation records; `metric` is the first one of the target's kind."""
    training: TrainingConfig
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the training records instead of training.max_steps."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Of head, adapters, order, dropout, and of what is drawn into a subset."""
    subsets: tuple[int | Share | Literal["all"], ...] = Field(default=(ALL,), min_length=1)
    """Numbers of training records, or shares such as ``"20%"``; each subset is inside the next larger one."""
    num_draws: int = Field(default=1000, ge=1)
    """Bootstrap samples."""
    baselines: Literal["all", "plain"] = "all"
    """`plain` leaves out those of the untuned model, which read every record once, and one-hot residues."""
    zero_shot_contexts: int = Field(default=5_000, ge=0)
    """Residues of all judged records up to which each is masked for the zero-shot likelihood of a value."""

    @model_validator(mode="before")
    @classmethod
    def _fill_training(cls, values: Any) -> Any:
        """Take the defaults of what is trained."""
        if not isinstance(values, dict):
            return values
        adapt = values.get("adapt", "frozen")
        kind = adapt if isinstance(adapt, str) else getattr(adapt, "kind", None) or dict(adapt).get("kind")
        if kind not in TRAINING_DEFAULTS or isinstance(values.get("training"), TrainingConfig):
            return values
        given = dict(values.get("training") or {})
        own = {**_COMMON, **TRAINING_DEFAULTS[kind]}
        if "step_tokens" in given:
            own.pop("step_records", None)
        optimizer = {**_OPTIMIZER, **own["optimizer"], **(given.pop("optimizer", None) or {})}
        return {**values, "training": {**own, **given, "optimizer": optimizer}}

    @field_validator("subsets")
    @classmethod
    def _check_subsets(cls, subsets: tuple[int | str, ...]) -> tuple[int | str, ...]:
        if any(isinstance(each, int) and each < 2 for each in subsets):
            raise ValueError("a subset needs at least 2 records")
        if len({isinstance(each, int) for each in subsets if each != ALL}) > 1:
            raise ValueError("subsets are numbers or shares, not both")
        if len(set(subsets)) != len(subsets):
            raise ValueError("a subset is there twice")
        return subsets

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError("seeds are whole numbers from 0 on, each once")
        return seeds
