"""A Longformer made of a trained RoBERTa, to go on training on longer inputs."""

from typing import Literal

from pydantic import Field

from protlm.config import BaseConfig
from protlm.models.language_model import LanguageModel
from protlm.models.loading import load_model
from protlm.models.longformer import to_longformer


class LongformerArchitecture:
    """A RoBERTa with sliding-window attention and more positions."""

    class Config(BaseConfig):
        """What to start from, and how long inputs become."""

        kind: Literal["longformer"] = "longformer"
        start: str
        """A RoBERTa: a Run, a folder, a catalogue name, or a hub name."""
        max_tokens: int = Field(default=2048, ge=8)
        """Longest input with special tokens; a multiple of `window`."""
        window: int = Field(default=512, ge=2)
        """Tokens that a token sees, half of them on each side; even."""

        def build(self, *, seed: int, name: str = "model") -> LanguageModel:
            """Load the start on the CPU and convert it.

            Parameters
            ----------
            seed
                Not used; the weights exist.
            name
                For tables.
            """
            del seed
            start = load_model(self.start, device="cpu")
            return to_longformer(start, max_tokens=self.max_tokens, window=self.window, name=name)
