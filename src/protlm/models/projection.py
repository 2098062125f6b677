"""From the width of a tower to the space that two towers share, and the temperature of their likeness."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from protlm.config import BaseConfig

LOWEST, HIGHEST = 1.0, 100.0
"""What cosines may be multiplied by; CLIP has the upper bound alone."""


class ProjectionConfig(BaseConfig):
    """A head of a tower."""

    kind: Literal["linear", "mlp"] = "linear"
    dim: int = Field(default=128, ge=2)
    """Of the shared space, for each segment; the same for both towers."""
    hidden_size: int | None = Field(default=None, ge=1)
    """Of `mlp`; the tower's width if not given."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    last_activation: Literal["none", "gelu"] = "none"
    """Before vectors are brought to unit length. `gelu` is the published recipe: it leaves hardly any
    negative numbers, so that all vectors lie in one corner of the space."""


class Projection(nn.Module):
    """Maps the pooled states of segments to unit vectors.

    Parameters
    ----------
    width
        Of the states.
    settings
        Kind and size.
    mean, sd
        Of each state over the training items, by which frozen vectors are standardised; none otherwise.
    """

    def __init__(self, width: int, settings: ProjectionConfig) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("sd", torch.ones(width))
        self.mean: Tensor
        self.sd: Tensor
        hidden = settings.hidden_size or width
        layers: list[nn.Module] = [nn.Linear(width, settings.dim)]
        if settings.kind == "mlp":
            layers = [nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, settings.dim)]
        if settings.last_activation == "gelu":
            layers.append(nn.GELU())
        self.layers = nn.Sequential(*layers, nn.Dropout(settings.dropout))

    def standardise(self, states: Tensor) -> None:
        """Take mean and standard deviation of these states for all that come.

        Parameters
        ----------
        states
            Pooled, of any number of segments.
        """
        states = states.flatten(0, 1)
        self.mean.copy_(states.mean(dim=0))
        self.sd.copy_(states.std(dim=0, correction=0).clamp_min(1e-6))

    def forward(self, states: Float[Tensor, "n k w"]) -> Float[Tensor, "n kd"]:
        """Give unit vectors: the segments of each, mapped alike, side by side.

        Parameters
        ----------
        states
            Pooled.
        """
        projected = self.layers((states.float() - self.mean) / self.sd)
        return nn.functional.normalize(projected.flatten(1), dim=-1)


class TemperatureConfig(BaseConfig):
    """What cosines are multiplied by, the inverse of a temperature."""

    scale: float = Field(default=1 / 0.07, ge=LOWEST, le=HIGHEST)
    """At the beginning."""
    is_learned: bool = True
    lowest: float = Field(default=LOWEST, gt=0)
    highest: float = Field(default=HIGHEST, gt=0)

    @model_validator(mode="after")
    def _check_order(self) -> "TemperatureConfig":
        if not self.lowest <= self.scale <= self.highest:
            raise ValueError(
                f"scale {self.scale} is not between lowest {self.lowest} and highest {self.highest}"
            )
        return self


class Temperature(nn.Module):
    """The scale of cosines, learned as its logarithm and kept between two bounds.

    Parameters
    ----------
    settings
        Beginning and bounds.
    """

    def __init__(self, settings: TemperatureConfig) -> None:
        super().__init__()
        self.settings = settings
        begin = torch.tensor(math.log(settings.scale))
        self.log_scale = nn.Parameter(begin, requires_grad=settings.is_learned)

    def forward(self) -> Tensor:
        """Give the scale, after bringing it back between its bounds."""
        low, high = math.log(self.settings.lowest), math.log(self.settings.highest)
        if self.log_scale.requires_grad and torch.is_grad_enabled():
            with torch.no_grad():
                self.log_scale.clamp_(low, high)
        return self.log_scale.clamp(low, high).exp()
