"""Find and load a model: a Run, a folder, a catalogue name, or a hub name. Safetensors only."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForMaskedLM, AutoTokenizer, EsmForMaskedLM
from transformers.utils import logging as transformers_logging

from protlm.data.family import Family
from protlm.data.layout import FILE_NAME, TokenLayout, published_layout
from protlm.data.vocabularies import default_layout, layouts_of
from protlm.errors import ModelError, did_you_mean
from protlm.models.catalog import CatalogEntry, catalog, layout_in_catalog
from protlm.models.default import packaged_model
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.members import expand, find_ensemble
from protlm.models.padded import BEHIND_PADDING
from protlm.models.tokenizers import check_same_ids, merges_of
from protlm.runs import Run

transformers_logging.disable_progress_bar()  # ours says what takes long

ROUNDED_UP = ("esmc",)
"""Families whose weights have more rows than their vocabulary has tokens, to a round number."""


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
        If it cannot be found, stands for several models, is not in safetensors, is damaged or lacks weights,
        is no masked language model, or its vocabulary and its weights do not fit each other.
    """
    if ensemble := find_ensemble(name):
        raise ModelError(
            f"'{name}' is an ensemble of {len(ensemble.members)} models, and one model is needed here",
            hint=f"name one, such as {ensemble.members[0]}; score and evaluate variants take them all",
        )
    source, shown = _locate(str(name))
    module = _load_module(source, shown)
    layout, tokenizer = _load_layout(source, module, shown)
    num_rows = module.get_input_embeddings().weight.shape[0]
    layout = fill_up(layout, module.config, num_rows)
    if num_rows != len(layout.tokens):
        raise ModelError(
            f"model '{shown}' has weights for {num_rows} tokens, but its vocabulary has {len(layout.tokens)}",
            hint=f"are the tokenizer files and {FILE_NAME} those of these weights?",
        )
    model = LanguageModel(module, layout, name=shown, tokenizer=tokenizer)
    model.family = Family.load(Path(source))
    model.eval()
    return model.to(pick_device(device)).cast(precision)


def load_members(
    names: Sequence[str], *, device: str = "auto", precision: Precision = "float32"
) -> list[LanguageModel]:
    """Load models, every member of those names that stand for several.

    Parameters
    ----------
    names
        As for `load_model`; also folders that ``pretrain --seeds`` made, and ``"esm1v"``.
    device, precision
        As for `load_model`.

    Raises
    ------
    ModelError
        As for `load_model`.
    """
    loaded = []
    for name, shown in expand(names):
        model = load_model(name, device=device, precision=precision)
        model.name = shown or model.name
        loaded.append(model)
    return loaded


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


_TUNED = ("finetune", "contrast")
"""Verbs whose Runs have a language model, if it is one."""


def _locate(name: str) -> tuple[str, str]:
    """Give what to load from, and the name to show."""
    path = Path(name)
    if path.is_dir():
        if Run.is_run(path):
            run = Run.open(path)
            if run.verb != "pretrain" and not (run.verb in _TUNED and run.model_path.is_dir()):
                raise ModelError(
                    f"{path} is a '{run.verb}' Run and has no model",
                    hint=f"name a Run of pretrain, {' or '.join(_TUNED)}",
                )
            if not run.is_done:
                raise ModelError(
                    f"the Run {path} is not finished",
                    hint=f"run its {run.verb} command again to resume it; its best model so far, if it was "
                    f"evaluated, is in {run.model_path}",
                )
            return str(run.model_path), run.name
        if not (path / "config.json").exists():
            raise ModelError(
                f"{path} has no config.json", hint="expected a Run, or a folder saved by save_pretrained"
            )
        return str(path), path.resolve().name
    if name in catalog():
        entry = catalog()[name]
        return (str(packaged_model(name)) if entry.is_packaged else _on_hub(entry)), name
    if name.count("/") == 1 and not name.startswith((".", "/")):
        return name, name.rpartition("/")[2]
    raise ModelError(
        f"there is no model '{name}': no such folder, and not in the catalogue",
        hint=did_you_mean(name, catalog()) + "; or a hub name such as facebook/esm2_t6_8M_UR50D",
    )


def _on_hub(entry: CatalogEntry) -> str:
    if not entry.is_on_hub:
        raise ModelError(
            f"model '{entry.name}' is not on a hub and must be made a folder first",
            hint=f"download it from {entry.source}, run: {entry.convert_command}, and name that folder",
        )
    return entry.source


def _load_module(source: str, shown: str) -> Any:
    folder = Path(source)
    if folder.is_dir() and not list(folder.glob("*.safetensors*")):
        raise ModelError(
            f"{folder} has no .safetensors file",
            hint=f"pickled weights are not read; run: protlm convert {folder} --out NEW_FOLDER",
        )
    try:
        module, report = AutoModelForMaskedLM.from_pretrained(
            source, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except SafetensorError as error:
        raise ModelError(
            f"the weights of model '{shown}' in {source} are damaged: {error}",
            hint="the file was cut short or changed; copy or download it again",
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(
            f"cannot load model '{shown}' from {source}: {first}",
            hint="a hub name needs the network or a filled cache; a local folder works offline",
        ) from error
    if missing := _drawn_at_random(module, set(report["missing_keys"])):
        raise ModelError(
            f"model '{shown}' lacks {len(missing)} weights of a masked language model, such as {missing[0]}",
            hint="is it an encoder saved without its language model head? save the whole model",
        )
    return module


def _drawn_at_random(module: Any, missing: set[str]) -> list[str]:
    """List the weights that matter here and that transformers drew because the file lacks them."""
    tied = getattr(module, "all_tied_weights_keys", {})
    return sorted(
        name
        for name in missing
        if "contact_head." not in name
        and not name.endswith(("position_ids", "inv_freq"))
        and (name not in tied or tied[name] in missing)
    )


def _load_layout(source: str, module: Any, shown: str) -> tuple[TokenLayout, Any]:
    """Give the layout, and the tokenizer of a model that `LanguageModel.save` cannot make one for."""
    folder = Path(source)
    is_esm = isinstance(module, EsmForMaskedLM)
    has_layout = (folder / FILE_NAME).exists()
    layout = TokenLayout.load(folder) if has_layout else None
    if layout is not None and is_esm:
        return layout, None
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        if layout is not None:
            return layout, None
        raise ModelError(
            f"model '{shown}' has no tokenizer files ({str(error).splitlines()[0]})",
            hint=f"put vocab.txt or {FILE_NAME} beside config.json",
        ) from error
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    tokens = tuple(sorted(vocabulary, key=lambda token: vocabulary[token]))
    if layout is not None:  # without files of its own, a tokenizer may come as an empty one
        return layout, tokenizer if tokens and tokens == layout.tokens[: len(tokens)] else None
    if sorted(vocabulary.values()) != list(range(len(tokens))):
        raise ModelError(
            f"the vocabulary of model '{shown}' leaves out ids", hint=f"put {FILE_NAME} beside config.json"
        )
    end = _tokens(tokenizer.eos_token, tokenizer.sep_token)
    separator = () if is_esm else _tokens(tokenizer.sep_token) or end
    if layouts_of(tokens):
        return _published_layout(source, tokens, module, shown), None if is_esm else tokenizer
    begin = _tokens(tokenizer.cls_token, tokenizer.bos_token)
    merges = merges_of(tokenizer)
    layout = TokenLayout(
        tokens=tokens,
        begin=begin,
        end=end,
        separator=separator * 2 if merges else separator or begin * 2,  # RoBERTa parts two texts by two
        pad=tokenizer.pad_token or "a pad token",
        mask=tokenizer.mask_token or "a mask token",
        unknown=_unknown(tokenizer, vocabulary, merges),
        max_tokens=max_tokens_of(module.config),
        merges=merges,
    )
    if merges:
        check_same_ids(tokenizer, layout, shown)
    return layout, None if is_esm else tokenizer


def _unknown(tokenizer: Any, vocabulary: dict[str, int], merges: tuple[str, ...]) -> str:
    if "X" in vocabulary and not merges:
        return "X"
    return tokenizer.unk_token or "X or a token for what is unknown"


def fill_up(layout: TokenLayout, config: Any, num_rows: int) -> TokenLayout:
    """Name the ids that no token has, where a family rounds up the rows of its weights.

    Logits are then those of the model's own call, column by column.

    Parameters
    ----------
    layout
        Of the tokens alone, or filled up already.
    config
        A Hugging Face configuration; of other families, the layout stays as it is.
    num_rows
        Rows of weights.
    """
    if config.model_type not in ROUNDED_UP:
        return layout
    fill = tuple(f"<null_{index}>" for index in range(len(layout.tokens), num_rows))
    return replace(layout, tokens=layout.tokens + fill)


def _published_layout(source: str, tokens: tuple[str, ...], module: Any, shown: str) -> TokenLayout:
    name = layout_in_catalog(source) or default_layout(tokens)
    if name is None:
        known = layouts_of(tokens)
        raise ModelError(
            f"the vocabulary of model '{shown}' was used with several chain layouts: {', '.join(known)}",
            hint=f"say which: protlm convert {source} --layout {known[0]} --out NEW_FOLDER",
        )
    layout = published_layout(name, max_tokens=max_tokens_of(module.config))
    if layout.tokens != tokens:
        raise ModelError(
            f"model '{shown}' has another vocabulary than its published layout '{name}'",
            hint=f"put {FILE_NAME} beside config.json",
        )
    return layout


def _tokens(*candidates: str | None) -> tuple[str, ...]:
    return tuple(token for token in candidates if token)[:1]


def max_tokens_of(config: Any) -> int | None:
    """Give the longest input of a model from its configuration; `None` with rotary positions.

    What a rotary model was trained on is in the catalogue as `trained_tokens`, and is no limit.

    Parameters
    ----------
    config
        A Hugging Face configuration.
    """
    if getattr(config, "position_embedding_type", "absolute") == "rotary":
        return None
    if getattr(config, "rope_parameters", None) or not hasattr(config, "max_position_embeddings"):
        return None
    behind_padding = config.model_type in BEHIND_PADDING
    return config.max_position_embeddings - (config.pad_token_id + 1 if behind_padding else 0)


__all__ = ["fill_up", "load_members", "load_model", "max_tokens_of", "pick_device"]
