"""What more could make a masked-marginal scan faster: ways that were tried beside the engine as it is.

    python benchmarks/scan_trials.py

In turns in one run at the 8M ESM-2 shape, float32 and bfloat16, 30 contexts of `masked_marginal_scan.py`:

- ``compiled``: every layer but the last, of which little is computed, through `torch.compile` with fixed
  shapes; the compilation is timed apart.
- ``first layer free``: queries, keys, values and attention of the first layer are not computed at all.
  Contexts of one scan differ in a single token there, so this is more than sharing that layer among them
  could ever save; the scores are wrong.
- ``shared projections``: queries, keys and values of the first layer once for each distinct token, which is
  exact; what is left of that layer is not shared.
- ``merged projections``: queries, keys and values by one matrix product.

CPU seconds, so that work of others on the machine counts little. None of these is kept: in neither precision
do they give a tenth beyond doubt, compiling takes longer than the scan, and the first layer is one of six
here but one of 33 in the 650M shape, where a whole share of it is under 3 %.
"""

import copy
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch._inductor.config

from masked_marginal_scan import default_sequence
from measuring import esm2_8m, in_turns, keep, ratio
from protlm.models import forward
from protlm.models.attention import rotate
from protlm.models.language_model import LanguageModel
from protlm.scoring.contexts import MASK, ContextList
from protlm.scoring.engine import run_contexts
from protlm.types.record import Chain, Record

CONTEXTS = 30
torch._inductor.config.force_disable_caches = True  # so that a second run compiles too


def main() -> None:
    ours = esm2_8m()
    half = LanguageModel(copy.deepcopy(ours.module), ours.layout, name="bfloat16").cast("bfloat16")
    contexts = ContextList([Record("wild type", (Chain(default_sequence()),))])
    for index in range(CONTEXTS):
        contexts.read(contexts.context(0, [(0, index, MASK)]), 0, index)
    keep("scan_trials", {each.name: _tried(each, contexts) for each in (_named(ours, "float32"), half)})


def _tried(model: LanguageModel, contexts: ContextList) -> dict[str, Any]:
    changed = {
        "first layer free": _first_layer_free(),
        "shared projections": _shared_projections(),
        "merged projections": _merged_projections(model),
    }
    begin = time.perf_counter()
    compiled = _compiled()
    with patch.object(forward, "_layer", compiled):
        run_contexts(model, contexts)
    seconds_to_compile = time.perf_counter() - begin
    kept: dict[str, np.ndarray] = {}

    def way(name: str, attribute: str | None = None, function: Callable[..., Any] | None = None) -> Any:
        def run() -> None:
            if attribute is None:
                kept[name] = run_contexts(model, contexts)
                return
            with patch.object(forward, attribute, function):
                kept[name] = run_contexts(model, contexts)

        return run

    ways = {"engine": way("engine"), "compiled": way("compiled", "_layer", compiled)}
    ways |= {name: way(name, "attend", function) for name, function in changed.items()}
    seconds = in_turns(ways, clock=time.process_time)
    return {
        "seconds to the end of a first compiled run, by the wall clock": seconds_to_compile,
        "times as fast as the engine": {
            name: ratio(seconds, "engine", name) for name in ways if name != "engine"
        },
        "largest difference of log-probabilities": {
            name: float(np.abs(kept[name] - kept["engine"]).max())
            for name in ("compiled", "shared projections", "merged projections")
        },
    }


def _compiled() -> Callable[..., torch.Tensor]:
    real, compiled = forward._layer, torch.compile(forward._layer, dynamic=False)

    def layer(module: Any, x_td: torch.Tensor, mixer: Any, rotary: Any, rows: Any) -> torch.Tensor:
        return (compiled if rows is None else real)(module, x_td, mixer, rotary, rows)

    return layer


def _first_layer_free() -> Callable[..., torch.Tensor]:
    real, calls = forward.attend, [0]

    def attend(module: Any, x_td: torch.Tensor, mixer: Any, rotary: Any, rows: Any) -> torch.Tensor:
        layer = calls[0] % 6
        calls[0] += 1
        return x_td if layer == 0 else real(module, x_td, mixer, rotary, rows)

    return attend


def _shared_projections() -> Callable[..., torch.Tensor]:
    real, calls = forward.attend, [0]

    def attend(module: Any, x_td: torch.Tensor, mixer: Any, rotary: Any, rows: Any) -> torch.Tensor:
        layer = calls[0] % 6
        calls[0] += 1
        if layer > 0:
            return real(module, x_td, mixer, rotary, rows)
        ((count, length),) = mixer._groups
        x_nld = x_td.view(count, length, -1)
        is_own = (x_nld != x_nld[:1]).any(-1)
        is_own[0] = True
        own = is_own.flatten().nonzero()[:, 0]
        place = torch.arange(length).repeat(count)
        place[own] = torch.arange(len(own))
        shape = (-1, module.num_attention_heads, module.attention_head_size)
        table = (rotary[0][own], rotary[1][own])
        query = rotate(module.query(x_td[own]).view(shape), table)[place]
        key = rotate(module.key(x_td[own]).view(shape), table)[place]
        value = module.value(x_td[own]).view(shape)[place]
        mixed = mixer(query.float(), key.float(), value.float(), None, 0.0)
        return mixed.flatten(1).to(x_td.dtype)

    return attend


def _merged_projections(model: LanguageModel) -> Callable[..., torch.Tensor]:
    real = forward.attend
    parts = ("query", "key", "value")
    merged = {
        layer.attention.self: tuple(
            torch.cat([getattr(getattr(layer.attention.self, part), kind).detach() for part in parts])
            for kind in ("weight", "bias")
        )
        for layer in model.module.esm.encoder.layer
    }

    def attend(module: Any, x_td: torch.Tensor, mixer: Any, rotary: Any, rows: Any) -> torch.Tensor:
        if rows is not None:
            return real(module, x_td, mixer, rotary, rows)
        together = torch.nn.functional.linear(x_td, *merged[module])
        query, key, value = together.view(len(x_td), 3, module.num_attention_heads, -1).unbind(1)
        query, key = rotate(query, rotary), rotate(key, rotary)
        dtype = query.dtype
        if dtype == torch.bfloat16:
            query, key, value = query.float(), key.float(), value.float()
        return mixer(query, key, value, rows, 0.0).flatten(1).to(dtype)

    return attend


def _named(model: LanguageModel, name: str) -> LanguageModel:
    model.name = name
    return model


if __name__ == "__main__":
    main()
