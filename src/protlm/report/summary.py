"""What ran: the facts of each source for the top of the page."""

import json
import math
import shlex
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protlm.errors import RunError
from protlm.report.blocks import Card
from protlm.report.figures.curves import tokens_seen
from protlm.report.sources import RunSource, ScoreSource, Sources
from protlm.runs import Run


def cards(sources: Sources) -> list[Card]:
    """Describe every source.

    Parameters
    ----------
    sources
        Runs and score tables.
    """
    return [*map(run_card, sources.runs), *map(score_card, sources.scores)]


def run_card(source: RunSource) -> Card:
    """Describe a Run: when, with what, on what.

    Parameters
    ----------
    source
        The Run.
    """
    run = source.run
    environment = run.read_json("environment.json")
    config = run.read_config()
    facts = {
        "started": _date(environment.get("started")),
        "finished": _date((run.path / "DONE").read_text().strip()) if run.is_done else "not yet",
        "parameters": _number(count_parameters(run.model_path)),
        "training": _training(run, config),
        **_data(run, config),
        "masking": str((config.get("masking") or {}).get("kind") or ""),
        "seed": str(config.get("seed", "")),
        "versions": _versions(environment.get("versions") or {}, environment.get("python")),
        "commit": (environment.get("commit") or "")[:10],
        "machine": _machine(environment),
    }
    return Card(
        name=source.label,
        verb=run.verb,
        is_unfinished=not run.is_done,
        facts=_filled(facts),
        command=_command(environment.get("arguments") or []),
    )


def score_card(source: ScoreSource) -> Card:
    """Describe a score table by its provenance.

    Parameters
    ----------
    source
        The table.
    """
    facts = source.facts
    models = facts.get("models") or []
    wild_type = facts.get("wild_type") or {}
    described = {
        "models": ", ".join(_model(model) for model in models),
        "ensemble": facts.get("ensemble") or "",
        "plan": facts.get("plan") or "",
        "wild type": f"{wild_type.get('id', '')}, {len(wild_type.get('residues', '')):,} residues",
        "variants": f"{len(source.frame):,}",
        "offset": str(facts.get("offset", "")),
        "precision": facts.get("precision") or "",
        "versions": _versions(facts.get("versions") or {}, None),
    }
    return Card(name=source.label, verb="score", is_unfinished=False, facts=_filled(described))


def count_parameters(model: Path) -> int | None:
    """Count a saved model's parameters from the headers of its safetensors files.

    Parameters
    ----------
    model
        The folder.

    Returns
    -------
    int or None
        `None` where there is no such file. Tied weights count once; rotary frequencies do not.
    """
    files = sorted(model.glob("*.safetensors"))
    sizes = [
        math.prod(facts["shape"])
        for file in files
        for name, facts in _tensors(file).items()
        if name != "__metadata__" and not name.endswith("inv_freq")
    ]
    return sum(sizes) if files else None


def _tensors(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            return json.loads(file.read(length))
    except (struct.error, ValueError, OSError) as error:
        raise RunError(f"cannot read {path}: {error}", hint="was its writing interrupted?") from error


def _training(run: Run, config: Mapping[str, Any]) -> str:
    lines = list(run.metrics())
    if not lines:
        return ""
    planned = (config.get("training") or {}).get("max_steps")
    steps = max(line.get("step", 0) for line in lines)
    of_planned = f" of {planned:,}" if planned and planned != steps else ""
    tokens = int(tokens_seen(lines)[1][-1])
    return f"{steps:,}{of_planned} steps" + (f", {tokens:,} tokens" if tokens else "")


def _data(run: Run, config: Mapping[str, Any]) -> dict[str, str]:
    if not (run.path / "data_manifest.json").exists():
        return {}
    manifest = run.read_json("data_manifest.json")
    if "assays" in manifest:
        left_out = len(manifest.get("left_out") or {})
        more = f" ({left_out:,} files left out)" if left_out else ""
        return {"data": f"{config.get('folder', '')}: {manifest['assays']:,} assays{more}"}
    if "num_records" in manifest:
        given = config.get("data")
        given = given if isinstance(given, dict) else {}
        source = config.get("input") or given.get("input") or given.get("task")
        begin = f"{source}: " if source else ""
        return {"data": f"{begin}{manifest['num_records']:,} records{_dropped(manifest)}"}
    if "pairs" in manifest and "source" in manifest["pairs"]:
        pairs = manifest["pairs"]
        return {"data": f"{pairs['source']}: {sum(pairs['pairs'].values()):,} pairs"}
    parts = {f"{split} data": manifest.get(split) for split in ("train", "eval")}
    return {
        name: f"{part.get('source')}: {part.get('num_records', 0):,} records{_dropped(part)}"
        for name, part in parts.items()
        if part
    }


def _dropped(part: Mapping[str, Any]) -> str:
    dropped = (part.get("corpus") or {}).get("dropped") or {}
    total = sum(dropped.values())
    return f" ({total:,} dropped when the corpus was made)" if total else ""


def _versions(versions: Mapping[str, str], python: str | None) -> str:
    shown = [f"{name} {versions[name]}" for name in ("protlm", "torch", "transformers") if name in versions]
    return ", ".join([*shown, *([f"Python {python}"] if python else [])])


def _machine(environment: Mapping[str, Any]) -> str:
    cpus = environment.get("cpus")
    parts = [environment.get("processor"), f"{cpus} CPUs" if cpus else "", environment.get("platform")]
    return ", ".join(part for part in parts if part)


def _command(arguments: list[str]) -> str:
    if not arguments:
        return ""
    return shlex.join(["protlm", *arguments[1:]])


def _model(model: Mapping[str, Any]) -> str:
    name, count = model.get("name", ""), model.get("parameters")
    return f"{name} ({count:,} parameters)" if count else str(name)


def _date(text: str | None) -> str:
    return (text or "").replace("T", " ").replace("+00:00", " UTC")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _filled(facts: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in facts.items() if value]
