"""Find and load a model: a Run, a folder, a catalogue name, or a hub name. Safetensors only."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from protlm.data.layout import FILE_NAME, TokenLayout
from protlm.errors import ModelError, did_you_mean
from protlm.models.catalog import catalog
from protlm.models.language_model import LanguageModel, Precision
from protlm.runs import Run

transformers_logging.disable_progress_bar()  # ours says what takes long


def load_model(name: str | Path, *, device: str = "auto", precision: Precision = "float32") -> LanguageModel:
    """Load a masked language model for inference.

    Parameters
    ----------
    name
        A Run folder, a folder in Hugging Face layout, a catalogue name such as ``"esm2-8m"``, or
        a hub name such as ``"facebook/esm2_t6_8M_UR50D"``.
    device
        ``"auto"`` takes a GPU if there is one.
    precision
        ``"bfloat16"`` halves memory; scores move by what `docs/precision.md` measures.

    Raises
    ------
    ModelError
        If it cannot be found, is not in safetensors, or is no masked language model.
    """
    source, shown = _locate(str(name))
    module = _load_module(source, shown)
    layout = _load_layout(source, module.config, shown)
    model = LanguageModel(module, layout, name=shown)
    model.eval()
    return model.to(pick_device(device)).cast(precision)


def pick_device(device: str) -> torch.device:
    """Turn ``"auto"`` into the best device there is.

    Parameters
    ----------
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Raises
    ------
    ModelError
        If the device asked for is not there.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"device '{device}' cannot be used: {reason}", hint="pass --device cpu") from None
    return torch.device(device)


def _locate(name: str) -> tuple[str, str]:
    """Give what to load from, and the name to show."""
    path = Path(name)
    if path.is_dir():
        if Run.is_run(path):
            run = Run.open(path)
            if run.verb != "pretrain":
                raise ModelError(f"{path} is a '{run.verb}' Run and has no model", hint="name a pretrain Run")
            if not run.is_done:
                raise ModelError(
                    f"the Run {path} is not finished",
                    hint="run its pretrain command again to resume it; its best model so far, if it was "
                    f"evaluated, is in {run.model_path}",
                )
            return str(run.model_path), run.name
        if not (path / "config.json").exists():
            raise ModelError(
                f"{path} has no config.json", hint="expected a Run, or a folder saved by save_pretrained"
            )
        return str(path), path.resolve().name
    if name in catalog():
        return catalog()[name].source, name
    if name.count("/") == 1 and not name.startswith((".", "/")):
        return name, name.rpartition("/")[2]
    raise ModelError(
        f"there is no model '{name}': no such folder, and not in the catalogue",
        hint=did_you_mean(name, catalog()) + "; or a hub name such as facebook/esm2_t6_8M_UR50D",
    )


def _load_module(source: str, shown: str) -> Any:
    folder = Path(source)
    if folder.is_dir() and not list(folder.glob("*.safetensors*")):
        raise ModelError(
            f"{folder} has no .safetensors file", hint="pickled weights are not read; convert them first"
        )
    try:
        return AutoModelForMaskedLM.from_pretrained(source, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(
            f"cannot load model '{shown}' from {source}: {first}",
            hint="a hub name needs the network or a filled cache; a local folder works offline",
        ) from error


def _load_layout(source: str, config: Any, shown: str) -> TokenLayout:
    folder = Path(source)
    if (folder / FILE_NAME).exists():
        return TokenLayout.load(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model '{shown}' has no tokenizer files ({str(error).splitlines()[0]})",
            hint=f"put vocab.txt or {FILE_NAME} beside config.json",
        ) from error
    by_id = sorted((index, token) for token, index in tokenizer.get_vocab().items())
    return TokenLayout(
        tokens=tuple(token for _, token in by_id),
        begin=_tokens(tokenizer.cls_token, tokenizer.bos_token),
        end=_tokens(tokenizer.eos_token, tokenizer.sep_token),
        pad=str(tokenizer.pad_token),
        mask=str(tokenizer.mask_token),
        unknown="X" if "X" in tokenizer.get_vocab() else str(tokenizer.unk_token),
        max_tokens=max_tokens_of(config),
    )


def _tokens(*candidates: str | None) -> tuple[str, ...]:
    return tuple(token for token in candidates if token)[:1]


def max_tokens_of(config: Any) -> int | None:
    """Give the longest input of a model from its configuration; `None` with rotary positions.

    Parameters
    ----------
    config
        A Hugging Face configuration.
    """
    if getattr(config, "position_embedding_type", "absolute") == "rotary":
        return None
    if not hasattr(config, "max_position_embeddings"):
        return None
    # in the RoBERTa and ESM families position ids start behind the padding id
    behind_padding = config.model_type in ("esm", "roberta", "longformer", "xlm-roberta")
    return config.max_position_embeddings - (config.pad_token_id + 1 if behind_padding else 0)


__all__ = ["load_model", "max_tokens_of", "pick_device"]
