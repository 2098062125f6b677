"""Train, adapt, score and honestly judge protein and antibody language models."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protlm.data.readers import read_records
    from protlm.models.loading import load_model
    from protlm.models.predictor import load_predictor
    from protlm.recipes.embed import embed
    from protlm.recipes.score import score
    from protlm.types.record import Chain, Record

_HOMES = {
    "Chain": "protlm.types.record",
    "Record": "protlm.types.record",
    "embed": "protlm.recipes.embed",
    "load_model": "protlm.models.loading",
    "load_predictor": "protlm.models.predictor",
    "read_records": "protlm.data.readers",
    "score": "protlm.recipes.score",
}

__all__ = ["Chain", "Record", "embed", "load_model", "load_predictor", "read_records", "score"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import protlm` stays fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'protlm' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
