"""Weights of a file fitted to an architecture by name and shape; nothing is guessed, filled in or cut."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedConfig

from protlm.errors import ModelError

_WRAPPERS = ("module.", "_orig_mod.")
"""What data-parallel training and compilation put before every name."""

_LEFT_OUT = {
    r".*embeddings\.position_ids": "position ids, which are counted anew",
    r".*\.pooler\..*": "a pooler, which a masked language model does not use",
}
"""Known parts that the model does not need, and why."""

_FREQUENCIES_OF_A_LAYER = re.compile(r".*\.layer\.(\d+|\*)\.attention\.self\.rotary_embeddings\.inv_freq")
_NOT_NEEDED = re.compile(r".*(contact_head\..*|inv_freq)")


def fit_weights(
    weights: Mapping[str, Tensor], config: PreTrainedConfig, *, where: str, notes: list[str]
) -> dict[str, Tensor]:
    """Give the weights that a masked language model of this configuration has, each once.

    Parameters
    ----------
    weights
        By name, as read.
    config
        Of the architecture.
    where
        The file, for messages.
    notes
        Filled with what was renamed and left out.

    Raises
    ------
    ModelError
        If a name is not known, a weight is missing, has another shape, is not finite, or two that the
        architecture holds to be one differ.
    """
    with torch.device("meta"):
        module = AutoModelForMaskedLM.from_config(config)
    expected: dict[str, Tensor] = module.state_dict()
    named = _with_todays_norms(_unwrapped(weights, notes), expected, notes)
    named = _without_known_parts(named, expected, notes)
    named = _with_frequencies_once(named, expected, where, notes)
    _check_names(named, expected, module, where)
    _check_values(named, expected, where)
    return _each_once(named, module, where, notes)


def _unwrapped(weights: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    for prefix in _WRAPPERS * 2:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
            notes.append(f"'{prefix}' taken off every name")
    return dict(weights)


def _with_todays_norms(
    weights: dict[str, Tensor], expected: Mapping[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    named = {}
    for name, value in weights.items():
        today = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
        named[today if name not in expected and today in expected else name] = value
    if count := len(named.keys() - weights.keys()):
        notes.append(f"renamed: {count} x gamma or beta of a layer norm")
    return named


def _without_known_parts(
    weights: dict[str, Tensor], expected: Mapping[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    kept, counts = {}, Counter[str]()
    for name, value in weights.items():
        reason = next((why for pattern, why in _LEFT_OUT.items() if re.fullmatch(pattern, name)), None)
        if reason is None or name in expected:
            kept[name] = value
        else:
            counts[reason] += 1
    notes += [f"left out: {count} x {reason}" for reason, count in counts.items()]
    return kept


def _with_frequencies_once(
    weights: dict[str, Tensor], expected: Mapping[str, Tensor], where: str, notes: list[str]
) -> dict[str, Tensor]:
    """Rotary frequencies of each layer, as older versions saved them, become those of the model.

    They are kept and not computed anew: some were rounded to 16 bits before training.
    """
    per_layer = [name for name in weights if _FREQUENCIES_OF_A_LAYER.fullmatch(name)]
    target = next((name for name in expected if name.endswith("rotary_embeddings.inv_freq")), None)
    if not per_layer or target is None:
        return weights
    first = weights[per_layer[0]]
    if any(not torch.equal(weights[name], first) for name in per_layer):
        raise ModelError(
            f"{where}: layers turn positions by different rotary frequencies, such as '{per_layer[0]}'",
            hint="transformers has one set for all layers, so this model is not converted",
        )
    notes.append(f"kept once: the rotary frequencies of {len(per_layer)} layers")
    others = {name: value for name, value in weights.items() if name not in per_layer}
    return {**others, target: first.float()}


def _check_names(
    named: Mapping[str, Tensor], expected: Mapping[str, Tensor], module: Any, where: str
) -> None:
    kind = type(module).__name__
    if unknown := sorted(set(named) - set(expected)):
        raise ModelError(
            f"{where} has {len(unknown)} weights that a {kind} does not have, such as '{unknown[0]}'",
            hint="is config.json that of these weights? other architectures are not converted",
        )
    tied: Mapping[str, str] = getattr(module, "all_tied_weights_keys", {})
    missing = [
        name
        for name in sorted(set(expected) - set(named))
        if not _NOT_NEEDED.fullmatch(name) and not (tied.get(name) in named or _partner(name, tied) in named)
    ]
    if missing:
        raise ModelError(
            f"{where} lacks {len(missing)} weights of a {kind}, such as '{missing[0]}'",
            hint="is it an encoder saved without its language model head, or one part of several?",
        )


def _partner(name: str, tied: Mapping[str, str]) -> str | None:
    return next((copy for copy, original in tied.items() if original == name), None)


def _check_values(named: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    for name, value in named.items():
        if value.shape != expected[name].shape:
            raise ModelError(
                f"{where}: '{name}' has the shape {tuple(value.shape)}, but by the configuration it would be "
                f"{tuple(expected[name].shape)}",
                hint="is config.json that of these weights?",
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(
                f"{where}: '{name}' has values that are no finite numbers",
                hint="the file is damaged, or training diverged; take an earlier checkpoint",
            )


def _each_once(named: dict[str, Tensor], module: Any, where: str, notes: list[str]) -> dict[str, Tensor]:
    """Keep one of two names for the same weight, under the name that transformers keeps it."""
    for copy, original in getattr(module, "all_tied_weights_keys", {}).items():
        if copy not in named:
            continue
        value = named.pop(copy)
        if original not in named:
            named[original] = value
        elif not torch.equal(value, named[original]):
            raise ModelError(
                f"{where}: '{copy}' and '{original}' differ, but are one weight in this architecture",
                hint="set tie_word_embeddings to false in config.json if they were trained apart",
            )
        else:
            notes.append(f"kept once: {copy}, which is {original}")
    return {name: value.contiguous().clone() for name, value in named.items()}
