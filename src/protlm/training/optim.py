"""Optimiser and learning-rate schedule."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from protlm.config import BaseConfig


class OptimizerConfig(BaseConfig):
    """AdamW and its schedule."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak rate."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """How the rate falls after warm-up."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps over which the rate rises from 0."""
    final_share: float = Field(default=0.1, ge=0, le=1)
    """Rate at the end as a share of the peak (linear, cosine)."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Not applied to biases, norms and, unless `decay_embeddings`, embeddings."""
    decay_embeddings: bool = False
    """Apply it to embeddings too, as Hugging Face's Trainer does."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(default=1e-6, gt=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest gradient norm; `null` is off."""

    def rate_at(self, step: int, max_steps: int) -> float:
        """Give the learning rate of a step.

        Parameters
        ----------
        step
            0-based.
        max_steps
            Steps in all.

        Examples
        --------
        >>> config = OptimizerConfig(learning_rate=1.0, schedule="linear", warmup_steps=2, final_share=0)
        >>> [round(config.rate_at(step, 6), 2) for step in range(6)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        progress = min(1.0, (step - self.warmup_steps) / max(1, max_steps - self.warmup_steps))
        falling = 1 - progress if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * (self.final_share + (1 - self.final_share) * falling)

    def build(self, module: nn.Module) -> torch.optim.AdamW:
        """Make the optimiser over the trainable parameters.

        Parameters
        ----------
        module
            The model.
        """
        trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
        kept = (nn.LayerNorm,) if self.decay_embeddings else (nn.LayerNorm, nn.Embedding)
        undecayed = {
            id(parameter)
            for part in module.modules()
            for parameter in part.parameters(recurse=False)
            if isinstance(part, kept) or parameter.ndim < 2
        }
        groups = [
            {"params": [p for p in trainable if id(p) not in undecayed], "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if id(p) in undecayed], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.learning_rate, betas=self.betas, eps=self.eps)
