"""The section on two towers: what they are, which pairs they saw, and how they came together."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protlm.report.blocks import Block, Cell, Figure, Paragraph, Section, Table
from protlm.report.figures.curves import SPLITS, Lines, training_curves
from protlm.report.sources import RunSource
from protlm.report.summary import count_parameters

SIDES = {"train": "to learn from", "valid": "to choose the weights by", "test": "never read in training"}
DIRECTIONS = {"sequence_to_structure": "structure found", "structure_to_sequence": "sequence found"}
"""In a batch, by the other view."""
_ALIKE = {
    "positive": "are right answers too",
    "ignore": "are left out of the comparison",
    "negative": "are wrong answers, as published",
}


def contrast_section(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    """Show the training of a sequence and a structure tower.

    Parameters
    ----------
    source
        Any Run.
    colours
        By Run.

    Returns
    -------
    Section or None
        `None` where the Run is no contrastive training, or has not begun.
    """
    run = source.run
    if run.verb != "contrast" or not (run.path / "data_manifest.json").exists():
        return None
    config, facts = run.read_config(), run.read_json("data_manifest.json")["pairs"]
    lines = [{**line, "loss_of_pairs": line["loss"]} for line in run.metrics() if "loss" in line]
    sizes = batch_sizes(config, facts["pairs"])
    blocks: list[Block] = [
        Paragraph(_what(config)),
        _towers(source, config),
        _sides(facts, config),
        *([_left_out(facts)] if any(facts["left_out"].values()) else []),
        *(_curves(source, config, lines, sizes, colours) if lines else []),
    ]
    return Section(f"contrast-{source.label}", f"Sequence and structure: {source.label}", blocks)


def batch_sizes(config: Mapping[str, Any], pairs: Mapping[str, int]) -> dict[str, float]:
    """Give how many pairs are told apart at once, on average, while training and at an evaluation.

    Parameters
    ----------
    config
        Of the Run.
    pairs
        On each side.
    """
    train = min(config["training"]["step_records"], pairs["train"])
    sizes = {"train": float(train)}
    if pairs.get("valid"):
        sizes["eval"] = pairs["valid"] / max(1, round(pairs["valid"] / train))
    return sizes


def _what(config: Mapping[str, Any]) -> str:
    data, loss = config["data"], config["loss"]
    crop = data.get("crop_residues")
    seen = f"in windows of {crop} residues, others in each epoch" if crop else "whole: both see the length"
    return (
        "Two towers learn to give a sequence and its own structure like vectors. "
        f"{config['training']['step_records']:,} pairs are told apart in a step; other items of an item's "
        f"group {_ALIKE[loss['same_cluster']]}. Proteins are read {seen}{_segments(config)}."
    )


def _segments(config: Mapping[str, Any]) -> str:
    count = config.get("segments", 1)
    return f", in {count} segments that are pooled apart" if count > 1 else ""


def _towers(source: RunSource, config: Mapping[str, Any]) -> Table:
    sequence, structure = config["sequence"], config["structure"]
    trained = str((sequence.get("adapt") or {}).get("kind", ""))
    control = ", fresh weights" if sequence.get("random_weights") else ""
    folder = source.run.path
    rows = [
        ["sequence", f"{sequence['model']}{control}", trained, _count(folder / "model"), _head(sequence)],
        [
            *("structure", str(structure["encoder"]), "full" if structure["is_trained"] else "frozen"),
            *(_count(folder / "structure_encoder"), _head(structure)),
        ],
    ]
    header = ["tower", "from", "trained", "parameters", "head"]
    return Table("The towers and their heads.", header, [[Cell(text) for text in row] for row in rows])


def _count(folder: Path) -> str:
    number = count_parameters(folder)
    return "–" if number is None else f"{number:,}"


def _head(tower: Mapping[str, Any]) -> str:
    head = tower["head"]
    activation = (
        "" if head.get("last_activation", "none") == "none" else f", {head['last_activation']} behind"
    )
    return f"{head['kind']} to {head['dim']:,}{activation}"


def _sides(facts: Mapping[str, Any], config: Mapping[str, Any]) -> Table:
    data = config["data"]
    how = "equal sequences alone"
    if data.get("group"):
        how = f"one value of '{data['group']}', or equal sequences"
    elif data.get("cluster_identity"):
        how = f"one cluster at {data['cluster_identity']:.0%} identity, or equal sequences"
    rows = [
        [
            Cell(f"{side} ({SIDES[side]})"),
            Cell(f"{facts['pairs'][side]:,}"),
            Cell(f"{facts['clusters'][side]:,}"),
        ]
        for side in SIDES
        if facts["pairs"].get(side)
    ]
    caption = f"What was divided. A group, which is on one side as a whole, is {how}."
    return Table(caption, ["side", "pairs", "groups"], rows)


def _left_out(facts: Mapping[str, Any]) -> Paragraph:
    reasons = [f"{count:,} {reason}" for reason, count in facts["left_out"].items() if count]
    return Paragraph(f"Left out: {'; '.join(reasons)}.")


def _curves(
    source: RunSource,
    config: Mapping[str, Any],
    lines: Lines,
    sizes: Mapping[str, float],
    colours: Mapping[str, str],
) -> list[Block]:
    size = sizes.get("eval", sizes["train"])
    chance = {"loss_of_pairs": math.log(size), **dict.fromkeys(DIRECTIONS, 1 / size)}
    metrics = ["loss_of_pairs", *DIRECTIONS, "temperature"]
    drawn = training_curves({source.label: lines}, metrics=metrics, colours=colours, chance=chance)
    if drawn is None:
        return []
    at_most = ", at most" if config["loss"]["same_cluster"] == "ignore" else ""
    text = (
        "Solid lines with markers are on pairs of groups that were not learned from, light lines on the "
        "training pairs. 'Found' is the share of items whose partner is the nearest in the batch; the dotted "
        f"line is what guessing gives on the former{at_most}. Both hang on the pairs in a batch and on the "
        "length of the windows, so only Runs that agree in these can be compared; 'protlm evaluate "
        "retrieval' is the test."
    )
    return [
        Paragraph(text),
        *_shortfall(lines, sizes),
        Figure(drawn.figure(), "Loss, partners found and temperature against training tokens"),
        _numbers(lines, sizes),
    ]


def _shortfall(lines: Lines, sizes: Mapping[str, float]) -> list[Block]:
    """Say in red where nothing was learned that carries over."""
    losses = [line["loss"] for line in lines if line["split"] == "eval"]
    if not losses or min(losses) < math.log(sizes["eval"]):
        return []
    text = (
        f"The validation loss was never below that of guessing: {min(losses):.3f} against "
        f"{math.log(sizes['eval']):.3f}."
    )
    return [Paragraph(text, tone="bad")]


def _numbers(lines: Lines, sizes: Mapping[str, float]) -> Table:
    rows = []
    for split in ("eval", "train"):
        own = [line for line in lines if line["split"] == split]
        if not own:
            continue
        moments = {"last": own[-1]}
        if split == "eval":
            moments = {"lowest loss": min(own, key=lambda line: line["loss"]), **moments}
        for moment, line in moments.items():
            rows.append(_row(f"{SPLITS[split]}, {moment}", line, sizes[split]))
    header = ["", "step", "pairs in a batch", "loss", "of guessing", *DIRECTIONS.values(), "of guessing"]
    return Table("The numbers of the figure.", header, rows)


def _row(name: str, line: Mapping[str, Any], size: float) -> list[Cell]:
    shares = [f"{line[direction]:.1%}" if direction in line else "–" for direction in DIRECTIONS]
    texts = [name, f"{line['step']:,}", f"{size:,.0f}", f"{line['loss']:.3f}", f"{math.log(size):.3f}"]
    return [Cell(text) for text in (*texts, *shares, f"{1 / size:.1%}")]
