"""Save and restore the whole training state in safetensors and JSON; no pickle.

Tensors are saved whole, whatever number of processes held shards of them, so that any number of
processes can go on. Random draws are functions of the step (`protlm.training.loop`), so no generator's
state belongs to it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from protlm.errors import RunError
from protlm.training.sharding import like, load_weights, whole, whole_weights


def save_checkpoint(
    folder: Path,
    step: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    *,
    writes: bool = True,
) -> None:
    """Write a checkpoint whole or not at all, and remove the older ones.

    All processes must call this: those that hold shards hand them over.

    Parameters
    ----------
    folder
        The Run's ``checkpoints``.
    step
        Finished steps.
    module, optimizer
        What to save.
    state
        Further plain values.
    writes
        Whether this process writes.
    """
    weights = whole_weights(module)
    tensors, scalars = _flatten(optimizer)
    if not writes:
        return
    part = folder / f"step-{step:09d}.part"
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    save_file(_unshared(weights), part / "model.safetensors")
    save_file(tensors, part / "optimizer.safetensors")
    state = {"format_version": 1, "step": step, "optimizer": scalars, **state}
    (part / "state.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    final = part.with_suffix("")
    if final.exists():
        shutil.rmtree(final)
    part.rename(final)
    for older in _checkpoints(folder)[:-1]:
        shutil.rmtree(older)


def load_checkpoint(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Restore the newest checkpoint in place; `None` where there is none.

    Parameters
    ----------
    folder
        The Run's ``checkpoints``.
    module, optimizer
        What to restore.

    Raises
    ------
    RunError
        If the checkpoint is of another model.
    """
    found = _checkpoints(folder)
    if not found:
        return None
    newest = found[-1]
    state = json.loads((newest / "state.json").read_text(encoding="utf-8"))
    try:
        missing, unexpected = load_weights(module, load_file(newest / "model.safetensors"))
    except RuntimeError as error:
        raise RunError(
            f"the checkpoint {newest} does not fit the model: {str(error).splitlines()[0]}",
            hint="was the config changed? pass --force to start over",
        ) from error
    tied = {name for name in missing if name.endswith(("decoder.weight", "decoder.bias"))}
    if set(missing) - tied or unexpected:
        raise RunError(
            f"the checkpoint {newest} does not fit the model", hint="was the config changed? pass --force"
        )
    tensors = load_file(newest / "optimizer.safetensors")
    tensors.pop("random", None)  # written by an earlier version
    _restore(optimizer, tensors, state["optimizer"])
    return state


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.suffix != ".part")


def _unshared(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keep one name of each tied tensor, as safetensors demands."""
    seen: set[int] = set()
    kept = {}
    for name, tensor in tensors.items():
        if tensor.data_ptr() in seen and tensor.numel():
            continue
        seen.add(tensor.data_ptr())
        kept[name] = tensor.contiguous()
    return kept


def _flatten(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], list[float]]:
    tensors = {}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            tensors[f"{index}.{name}"] = torch.as_tensor(whole(value)).contiguous()
    return tensors, [group["lr"] for group in optimizer.param_groups]


def _restore(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], rates: list[float]) -> None:
    state = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    restored: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        restored.setdefault(int(index), {})[name] = like(tensor, parameters[int(index)])
    state["state"] = restored
    optimizer.load_state_dict(state)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
