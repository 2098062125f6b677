"""What is trained of a model that has weights: all of it, its last layers, or low-rank adapters (LoRA)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from protlm.config import BaseConfig
from protlm.errors import ConfigError
from protlm.models.language_model import LanguageModel
from protlm.registry import Registry

adaptations = Registry(
    "adaptation",
    {
        "full": "protlm.models.adaptation:FullAdaptation",
        "last": "protlm.models.adaptation:LastAdaptation",
        "lora": "protlm.models.adaptation:LoraAdaptation",
    },
)

fine_tunings = Registry(
    "adaptation",
    {
        "frozen": "protlm.models.adaptation:FrozenAdaptation",
        "full": "protlm.models.adaptation:FullAdaptation",
        "last": "protlm.models.adaptation:LastAdaptation",
        "lora": "protlm.models.adaptation:LoraAdaptation",
    },
)
"""Those for a model under a head, which can be all that is trained."""

ADAPTER = "default"
"""The name under which peft keeps the adapter inside the module."""


class FullAdaptation:
    """Train every weight."""

    class Config(BaseConfig):
        """Nothing to set."""

        kind: Literal["full"] = "full"

        def apply(self, model: LanguageModel, *, seed: int) -> None:
            """Leave the model as it is.

            Parameters
            ----------
            model
                Any.
            seed
                Not used.
            """
            del model, seed


class FrozenAdaptation:
    """Train nothing of the model, so that it reads each sequence once; for a head on top of it."""

    class Config(BaseConfig):
        """Nothing to set."""

        kind: Literal["frozen"] = "frozen"

        def apply(self, model: LanguageModel, *, seed: int) -> None:
            """Freeze every weight.

            Parameters
            ----------
            model
                Changed in place.
            seed
                Not used.
            """
            del seed
            model.module.requires_grad_(False)


class LastAdaptation:
    """Train the last layers, and the norm behind them; embeddings and earlier layers are frozen."""

    class Config(BaseConfig):
        """How many."""

        kind: Literal["last"] = "last"
        layers: int = Field(default=1, ge=1)

        def apply(self, model: LanguageModel, *, seed: int) -> None:
            """Freeze what is below the last layers.

            Parameters
            ----------
            model
                Changed in place.
            seed
                Not used.

            Raises
            ------
            ConfigError
                If the model has no such list of layers, or fewer.
            """
            del seed
            encoder = getattr(model.module.base_model, "encoder", None)
            layers = getattr(encoder, "layer", None)
            if encoder is None or layers is None or len(layers) < self.layers:
                known = "no list of layers" if layers is None else f"{len(layers)} layers"
                raise ConfigError(
                    f"adapt.layers: {self.layers} is too many; model '{model.name}' has {known}",
                    hint="lower it, or take adapt.kind full or lora",
                )
            model.module.requires_grad_(False)
            norm = getattr(encoder, "emb_layer_norm_after", None)
            for part in [*layers[-self.layers :], *([] if norm is None else [norm])]:
                part.requires_grad_(True)


class LoraAdaptation:
    r"""Freeze the weights and train a low-rank difference beside each chosen linear layer.

    .. math:: y = W x + \frac{\alpha}{r} B A x

    with :math:`A` of `rank` rows drawn at random and :math:`B` of `rank` columns beginning at 0, so that
    training starts from the model as it is.

    References
    ----------
    Hu et al. 2022, LoRA, equation 3.
    """

    class Config(BaseConfig):
        """Size and place of the adapters."""

        kind: Literal["lora"] = "lora"
        rank: int = Field(default=8, ge=1)
        alpha: float = Field(default=16.0, gt=0)
        """The difference is scaled by alpha / rank."""
        dropout: float = Field(default=0.0, ge=0, lt=1)
        """Of the adapters' input."""
        targets: tuple[str, ...] = Field(default=("query", "key", "value", "dense"), min_length=1)
        """Linear layers to adapt, by the last parts of their names in the Hugging Face module."""

        def apply(self, model: LanguageModel, *, seed: int) -> None:
            """Put adapters into the model; all other weights are frozen.

            Parameters
            ----------
            model
                Changed in place.
            seed
                Of the adapters' initial weights; drawn without touching the global generator.

            Raises
            ------
            ConfigError
                If a target names no linear layer.
            """
            add_lora(model, self, seed=seed)


def add_lora(model: LanguageModel, settings: LoraAdaptation.Config, *, seed: int) -> None:
    """Put LoRA adapters into a model in place.

    Parameters
    ----------
    model
        Its Hugging Face module keeps its class; the chosen linear layers are wrapped.
    settings
        Size and place.
    seed
        Of the initial weights.
    """
    from peft import LoraConfig, inject_adapter_in_model

    linear = [name for name, part in model.module.named_modules() if isinstance(part, nn.Linear)]
    for target in settings.targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            raise ConfigError(f"adapt.targets: no linear layer of {model.name} is '{target}'", hint=known)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        base_model_name_or_path=model.name,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model.module, adapter_name=ADAPTER)


def is_adapted(module: nn.Module) -> bool:
    """Tell whether a module has adapters in it.

    Parameters
    ----------
    module
        Any module.
    """
    return bool(_adapted_layers(module))


def num_trained(module: nn.Module) -> int:
    """Count the parameters that are trained, tied ones once.

    Parameters
    ----------
    module
        Any module.
    """
    return sum({id(p): p.numel() for p in module.parameters() if p.requires_grad}.values())


def merged_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of the plain module that computes the same as an adapted one.

    Parameters
    ----------
    module
        A Hugging Face module, with or without adapters.
    weights
        Its whole state by name.
    """
    layers = _adapted_layers(module)
    plain = {}
    for name, tensor in weights.items():
        layer, is_base, last = name.partition(".base_layer.")
        if is_base and layer in layers:
            plain[f"{layer}.{last}"] = tensor
        elif ".lora_" not in name:
            plain[name] = tensor
    for layer, scaling in layers.items():
        down = weights[f"{layer}.lora_A.{ADAPTER}.weight"]
        up = weights[f"{layer}.lora_B.{ADAPTER}.weight"]
        base = plain[f"{layer}.weight"]
        plain[f"{layer}.weight"] = base + (scaling * (up.float() @ down.float())).to(base.dtype)
    return plain


def save_adapter(module: Any, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write the adapters alone, in the two files that `peft.PeftModel.from_pretrained` reads.

    Parameters
    ----------
    module
        An adapted Hugging Face module.
    weights
        Its whole state by name.
    folder
        Made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        f"base_model.model.{name}".replace(f".{ADAPTER}.weight", ".weight"): tensor.contiguous().cpu()
        for name, tensor in weights.items()
        if ".lora_" in name
    }
    module.peft_config[ADAPTER].save_pretrained(str(folder))
    save_file(kept, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _adapted_layers(module: nn.Module) -> dict[str, float]:
    """Name the adapted linear layers and the scale of their difference."""
    return {
        name: float(part.scaling[ADAPTER])  # type: ignore[index]
        for name, part in module.named_modules()
        if hasattr(part, "lora_A") and hasattr(part, "base_layer")
    }
