"""Settings of `protlm contrast`."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from protlm.config import AnyConfig, BaseConfig, one_of
from protlm.models.adaptation import FullAdaptation, fine_tunings
from protlm.models.projection import ProjectionConfig, TemperatureConfig
from protlm.models.structure_encoder import Origin
from protlm.models.towers import TowerPooling
from protlm.objectives.contrastive import SameCluster
from protlm.training.loop import TrainingConfig


class PairData(BaseConfig):
    """Which structures, and which are kept apart."""

    structures: str
    """A Parquet file of backbones, a folder of structure files, or a corpus of `protlm prepare --structures`;
    see `protlm.data.backbones.open_backbones`."""
    group: str | None = None
    """A column; items with one value are on one side and count as alike."""
    cluster_identity: float | None = Field(default=None, gt=0, le=1)
    """In place of a column: clusters of sequences by MMseqs2."""
    random: bool = False
    """Neither: items are divided singly, and none are alike but equal sequences."""
    tested: float = Field(default=0.2, ge=0, lt=1)
    """Share that is set aside and never read in training, for `evaluate retrieval`."""
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share to choose the weights by."""
    split_seed: int = 0
    crop_residues: int | None = Field(default=None, ge=8)
    """Both views are cut to the same random window, another one in each epoch. Without, both towers see the
    length, which alone tells most pairs apart."""
    min_residues: int = Field(default=20, ge=1)
    """Shorter ones are left out and counted; with `crop_residues`, those shorter than the window are too."""
    max_residues: int | None = Field(default=None, ge=8)
    """Longer ones are left out and counted, unless they are cut."""

    @model_validator(mode="after")
    def _check_groups(self) -> "PairData":
        if sum([self.group is not None, self.cluster_identity is not None, self.random]) != 1:
            raise ValueError("say what is alike: one of group, cluster_identity and random: true")
        if self.tested + self.validation >= 1:
            raise ValueError(
                f"tested {self.tested} and validation {self.validation} leave nothing to learn from"
            )
        return self


class SequenceTowerConfig(BaseConfig):
    """The language model."""

    model: str
    """A Run, folder or name."""
    random_weights: bool = False
    """Take the same network with fresh weights, as a control."""
    adapt: Annotated[AnyConfig, one_of(fine_tunings, "full")] = FullAdaptation.Config()
    """What of it is trained."""
    pooling: TowerPooling = "mean"
    head: ProjectionConfig = ProjectionConfig()


class StructureTowerConfig(BaseConfig):
    """The structure encoder."""

    encoder: str = "protein-mpnn"
    """``protein-mpnn`` or ``gvp-transformer`` is a new network; else a folder of `protlm convert`, ``3di``,
    or a file of vectors."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Sizes of a new network."""
    origin: Origin = "centroid"
    """Of a new network's coordinates."""
    is_trained: bool = True
    """A frozen encoder reads each structure once, and its vectors are kept."""
    head: ProjectionConfig = ProjectionConfig()


class ContrastLossConfig(BaseConfig):
    """What is minimised."""

    same_cluster: SameCluster = "positive"
    temperature: TemperatureConfig = TemperatureConfig()


class ContrastConfig(BaseConfig):
    """Settings of `protlm contrast`."""

    data: PairData
    sequence: SequenceTowerConfig
    structure: StructureTowerConfig = StructureTowerConfig()
    segments: int = Field(default=1, ge=1)
    """Equal parts of a molecule that both towers pool apart; their vectors stand side by side, `dim` of each.
    With 1, as published, a vector knows what a molecule is made of, but hardly where it is."""
    loss: ContrastLossConfig = ContrastLossConfig()
    training: TrainingConfig = TrainingConfig(step_records=128)
    seed: int = 0

    @model_validator(mode="after")
    def _check_sizes(self) -> "ContrastConfig":
        dims = self.sequence.head.dim, self.structure.head.dim
        if dims[0] != dims[1]:
            raise ValueError(f"the heads meet in one space: sequence.head.dim {dims[0]} is not {dims[1]}")
        shortest = self.data.crop_residues or self.data.min_residues
        if self.segments > shortest:
            raise ValueError(
                f"segments {self.segments} is more than the residues of the shortest item, {shortest}: "
                "set data.min_residues, or take fewer"
            )
        if self.segments > 1 and self.sequence.pooling == "begin":
            raise ValueError("sequence.pooling begin is one vector: take mean, or segments 1")
        tokens = self.training.step_tokens
        if tokens != TrainingConfig.model_fields["step_tokens"].default:
            raise ValueError(f"training.step_tokens {tokens} does nothing here: set training.step_records")
        if self.training.step_records is None:
            raise ValueError("training.step_records is needed: so many pairs are told apart in a step")
        if self.training.step_records < 2:
            raise ValueError("training.step_records 1 leaves nothing to tell apart: take 2 at least")
        return self
