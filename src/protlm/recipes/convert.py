"""convert: a published checkpoint to a folder that loads: safetensors, configuration, tokenizer, layout."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.data.layout import FILE_NAME, TokenLayout, published_layout
from protlm.data.vocabularies import LAYOUTS, VOCABULARIES, default_layout, layouts_of
from protlm.errors import ConfigError, ModelError, RunError
from protlm.models.fair_esm import from_fair_esm, is_fair_esm
from protlm.models.language_model import LanguageModel
from protlm.models.loading import ROUNDED_UP, fill_up, load_model, max_tokens_of
from protlm.models.pickled import check_weights, read_pickle
from protlm.models.tokenizers import tokenizer_of
from protlm.models.weight_names import fit_weights
from protlm.recipes.archives import is_archive, unpack
from protlm.recipes.convert_structure import is_structure_checkpoint, write_structure_encoder
from protlm.recipes.outputs import claim_folder
from protlm.types.record import Chain, Record, Role

Say = Callable[[str], None]

TOKENIZER_FILES = (
    *("vocab.txt", "vocab.json", "merges.txt", "tokenizer.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
DEEPSPEED_FILE = "mp_rank_00_model_states.pt"
REGRESSION_SUFFIX = "-contact-regression.pt"


@dataclass
class Checkpoint:
    """What was read: an architecture, its weights, and what came with them."""

    config: PreTrainedConfig
    weights: dict[str, Tensor]
    origin: str
    """What kind of file it was, for the log."""
    folder: Path | None = None
    """Where tokenizer files may be."""
    layout: str | None = None
    """The published layout that this kind of file always has."""
    notes: list[str] = field(default_factory=list)


def convert(
    source: Path, out: Path, *, layout: str | None = None, inside: str | None = None, say: Say = print
) -> Path:
    """Make a folder that `load_model` and plain `AutoModelForMaskedLM.from_pretrained` read.

    A checkpoint of ESM-IF1 or ProteinMPNN becomes one that `load_structure_encoder` reads.

    Parameters
    ----------
    source
        A folder in Hugging Face layout, a checkpoint folder of Trainer or DeepSpeed, a ``.pt`` file of
        `fair-esm` or ProteinMPNN, or a tar or zip archive of a folder.
    out
        The folder to make; nothing is overwritten.
    layout
        A name in `protlm.data.vocabularies.LAYOUTS`; needed where the source does not tell.
    inside
        Which folder inside the source, where it has several models.
    say
        Tells the user what was mapped.

    Raises
    ------
    ModelError
        If the source is not known, holds more than weights, or does not fit its configuration.
    RunError
        If `out` is there already.
    ConfigError
        If there is no such layout.
    """
    if out.exists():
        raise RunError(f"{out} exists, and convert overwrites nothing", hint="choose another --out")
    if layout is not None:
        published_layout(layout)
    if not source.exists():
        raise ModelError(f"there is no {source}", hint="download it first; see protlm models NAME")
    claim_folder(out)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        if is_archive(source):
            count = unpack(source, _made(Path(scratch) / "unpacked"))
            say(f"{source.name}: {count:,} files unpacked")
            checkpoint = read_checkpoint(Path(scratch) / "unpacked", inside)
        else:
            checkpoint = None if source.is_file() else read_checkpoint(source, inside)
        part = _made(Path(scratch) / out.name)
        if checkpoint is not None:
            write_model(checkpoint, part, layout, say=say)
        else:
            _write_of_file(source, part, layout, say=say)
        part.rename(out)
    return out


def _write_of_file(source: Path, part: Path, layout: str | None, *, say: Say) -> None:
    values = read_pickle(source)
    if is_structure_checkpoint(values):
        if layout is not None:
            raise ConfigError(f"--layout {layout} is of language models", hint="leave it out")
        write_structure_encoder(values, source, part, say=say)
    else:
        write_model(_read_file(source, values), part, layout, say=say)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def read_checkpoint(source: Path, inside: str | None = None) -> Checkpoint:
    """Read configuration and weights of a source, named as in transformers.

    Parameters
    ----------
    source
        A file or a folder.
    inside
        Which folder inside it.
    """
    if source.is_file():
        return _read_file(source, read_pickle(source))
    folder = _model_folder(source, inside)
    config = _read_config(folder)
    weights, origin = _read_weights(folder)
    notes: list[str] = []
    if classes := [
        name for name in (config.architectures or []) if name not in (_masked_class(config).__name__,)
    ]:
        notes.append(
            f"{', '.join(classes)} read as {_masked_class(config).__name__}; none of its code is run"
        )
    return Checkpoint(
        config=config,
        weights=fit_weights(weights, config, where=str(folder), notes=notes),
        origin=origin,
        folder=folder,
        notes=notes,
    )


def _read_file(path: Path, values: Any) -> Checkpoint:
    if not is_fair_esm(values):
        raise ModelError(
            f"{path} is no checkpoint of fair-esm, and a file of weights alone says no architecture",
            hint="put it into a folder as pytorch_model.bin, beside the config.json of the model",
        )
    beside = path.with_name(path.stem + REGRESSION_SUFFIX)
    regression = read_pickle(beside) if beside.exists() else None
    config, weights = from_fair_esm(values, regression, where=str(path))
    notes: list[str] = []
    if regression is None:
        notes.append(f"no {beside.name} beside it: without weights for contacts, which protlm does not use")
    weights = fit_weights(weights, config, where=str(path), notes=notes)
    return Checkpoint(config, weights, "checkpoint of fair-esm", layout="esm", notes=notes)


def _model_folder(source: Path, inside: str | None) -> Path:
    root = source / inside if inside else source
    if inside and not (root.is_dir() and root.resolve().is_relative_to(source.resolve())):
        raise ModelError(f"there is no folder {inside} inside {source}", hint="look at the names it has")
    if (root / "config.json").is_file():
        return root
    found = sorted(path.parent for path in root.rglob("config.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ModelError(f"{root} has no config.json", hint="expected the folder of a Hugging Face model")
    names = ", ".join(str(path.relative_to(source)) for path in found)
    raise ModelError(f"{source} has {len(found)} models: {names}", hint="say which with --inside NAME")


def _read_config(folder: Path) -> PreTrainedConfig:
    path = folder / "config.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        kind = facts.pop("model_type")
        facts.pop("auto_map", None)  # names code that came with the weights
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({error!r})", hint="copy or download it again") from error
    if kind not in CONFIG_MAPPING or CONFIG_MAPPING[kind] not in MODEL_FOR_MASKED_LM_MAPPING:
        raise ModelError(
            f"{path}: transformers has no masked language model of type '{kind}'",
            hint="models with code of their own, such as mixtures of experts, are not converted",
        )
    try:
        return CONFIG_MAPPING[kind].from_dict(facts)
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise ModelError(
            f"{path} has settings that a '{kind}' model cannot have: {' '.join(str(error).split())}",
            hint="was it changed by hand, or made for another version?",
        ) from error


def _masked_class(config: PreTrainedConfig) -> Any:
    return MODEL_FOR_MASKED_LM_MAPPING[type(config)]


def _read_weights(folder: Path) -> tuple[dict[str, Tensor], str]:
    for single, kind in (("model.safetensors", "safetensors"), ("pytorch_model.bin", "pickled weights")):
        if (folder / single).is_file():
            return _read_part(folder / single), f"folder with {kind}"
        if (folder / f"{single}.index.json").is_file():
            return _read_parts(folder, folder / f"{single}.index.json"), f"folder with {kind} in parts"
    states = sorted(folder.glob(f"global_step*/{DEEPSPEED_FILE}"))
    if len(states) > 1:
        latest = folder / "latest"
        name = latest.read_text(encoding="utf-8").strip() if latest.is_file() else states[-1].parent.name
        states = [path for path in states if path.parent.name == name]
    if states:
        return _read_deepspeed(states[0]), f"DeepSpeed checkpoint {states[0].parent.name}"
    raise ModelError(
        f"{folder} has no weights: no model.safetensors, pytorch_model.bin or global_step*/{DEEPSPEED_FILE}",
        hint="name the folder of one checkpoint, such as checkpoint-250000",
    )


def _read_part(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ModelError(f"{path} is damaged: {error}", hint="copy or download it again") from error
    return check_weights(read_pickle(path), path)


def _read_parts(folder: Path, index: Path) -> dict[str, Tensor]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is damaged ({error})", hint="copy or download it again") from error
    weights: dict[str, Tensor] = {}
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ModelError(f"{index} names '{name}', which is no file beside it", hint="download all parts")
        weights |= _read_part(folder / name)
    return weights


def _read_deepspeed(path: Path) -> dict[str, Tensor]:
    values = read_pickle(path)
    if not isinstance(values, Mapping) or "module" not in values:
        raise ModelError(f"{path} holds no 'module'", hint="expected a checkpoint that DeepSpeed saved")
    weights = check_weights(values["module"], path)
    if any(not value.numel() for value in weights.values()):
        raise ModelError(
            f"{path} holds weights without content: they are spread over processes (ZeRO stage 3)",
            hint="gather them with the zero_to_fp32.py that lies in the checkpoint",
        )
    return weights


def write_model(checkpoint: Checkpoint, folder: Path, layout: str | None, *, say: Say) -> LanguageModel:
    """Write the files of a model and load it from them.

    Parameters
    ----------
    checkpoint
        From `read_checkpoint`.
    folder
        Empty.
    layout
        The published layout that was asked for.
    say
        Tells the user what was written.
    """
    config = checkpoint.config
    num_values = sum(value.numel() for value in checkpoint.weights.values())
    count = len(checkpoint.weights)
    say(f"{checkpoint.origin}: {count:,} weights, {num_values:,} values, all of known names and shapes")
    for note in checkpoint.notes:
        say(note)
    dtypes = {value.dtype for value in checkpoint.weights.values() if value.dtype.is_floating_point}
    config.dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    config.architectures = [_masked_class(config).__name__]
    config.save_pretrained(folder)
    save_file(checkpoint.weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokens = _choose_layout(checkpoint, layout, folder, say)
    model = load_model(folder, device="cpu")
    tokens = tokens or model.layout
    tokens.save(folder)
    tokenizer = model.tokenizer or tokenizer_of(model.module, tokens)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    _check_runs(model)
    say(f"chains: {_written_pair(tokens)}; {len(tokens.tokens)} tokens; {model.path}")
    return model


def _choose_layout(checkpoint: Checkpoint, asked: str | None, folder: Path, say: Say) -> TokenLayout | None:
    """Save the layout that was asked for or is known; `None` leaves it to the tokenizer files, copied."""
    limit = max_tokens_of(checkpoint.config)
    given = _tokens_beside(checkpoint.folder)
    own = checkpoint.folder is not None and (checkpoint.folder / FILE_NAME).is_file()
    if asked is None and own and checkpoint.folder is not None:
        layout = TokenLayout.load(checkpoint.folder)
    else:
        name = asked or checkpoint.layout or _recognised(given, checkpoint, say)
        layout = published_layout(name, max_tokens=limit) if name else None
    if layout is not None:
        layout = fill_up(layout, checkpoint.config, getattr(checkpoint.config, "vocab_size", 0))
        _check_vocabulary(layout, given, checkpoint)
        layout.save(folder)
    if checkpoint.folder is not None:
        for name in TOKENIZER_FILES:
            if (checkpoint.folder / name).is_file():
                shutil.copyfile(checkpoint.folder / name, folder / name)
    return layout


def _tokens_beside(folder: Path | None) -> tuple[str, ...] | None:
    """Read the vocabulary that lies beside the weights; `None` where there is none."""
    if folder is None or not any((folder / name).is_file() for name in TOKENIZER_FILES[:4]):
        return None
    try:
        vocabulary: dict[str, int] = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False
        ).get_vocab()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the tokenizer files in {folder} cannot be read: {str(error).splitlines()[0]}",
            hint="pass --layout NAME and take the tokenizer files away",
        ) from error
    return tuple(sorted(vocabulary, key=lambda token: vocabulary[token]))


def _recognised(given: tuple[str, ...] | None, checkpoint: Checkpoint, say: Say) -> str | None:
    if given is None:
        size = checkpoint.config.vocab_size
        fitting = [
            name for name, each in LAYOUTS.items() if len(VOCABULARIES[each.vocabulary].tokens) == size
        ]
        raise ModelError(
            f"{checkpoint.folder} has no vocabulary beside its weights for {size} tokens",
            hint=f"say which it was: --layout {' | '.join(fitting) if fitting else 'NAME'}",
        )
    names = layouts_of(given)
    if not names:
        return None
    name = default_layout(given)
    if name is None:
        raise ModelError(
            f"its vocabulary was used with several chain layouts: {', '.join(names)}",
            hint="say which: " + ", or ".join(f"--layout {each} ({LAYOUTS[each].used_by})" for each in names),
        )
    say(f"layout '{name}', by its vocabulary; others: {', '.join(names[1:]) or 'none'} (--layout)")
    return name


def _check_vocabulary(layout: TokenLayout, given: tuple[str, ...] | None, checkpoint: Checkpoint) -> None:
    if given is not None and checkpoint.config.model_type in ROUNDED_UP:
        given += layout.tokens[len(given) :]
    if given is not None and given != layout.tokens:
        index = next(
            (i for i, (a, b) in enumerate(zip(given, layout.tokens, strict=False)) if a != b),
            min(len(given), len(layout.tokens)),
        )
        there = given[index] if index < len(given) else "nothing"
        raise ModelError(
            f"the vocabulary in {checkpoint.folder} is not that of the layout: id {index} is {there}, "
            f"and would be {layout.tokens[index] if index < len(layout.tokens) else 'nothing'}",
            hint="choose another --layout; protlm models --layouts lists them",
        )
    size = getattr(checkpoint.config, "vocab_size", None)
    if size != len(layout.tokens):
        raise ModelError(
            f"the model has {size} tokens, and the layout {len(layout.tokens)}",
            hint="choose another --layout; protlm models --layouts lists them",
        )


def _check_runs(model: LanguageModel) -> None:
    single = Record("single", (Chain("QVQLVQ", role=Role.HEAVY),))
    with torch.inference_mode():
        logits = model.logits(collate(flatten_records([single]), model.layout))
    if not bool(torch.isfinite(logits).all()):
        raise ModelError("the converted model gives logits that are no finite numbers", hint="is it damaged?")


def _written_pair(layout: TokenLayout) -> str:
    """Show how a pair is written, or that pairs are not."""
    begin, end = "".join(layout.begin), "".join(layout.end)
    if set(layout.separator) - set(layout.tokens):
        return f"{begin}CHAIN{end}, single ones only"
    return f"{begin}HEAVY{layout.separator_text}LIGHT{end}"


__all__ = ["convert", "read_checkpoint", "write_model"]
