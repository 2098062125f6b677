"""Blocks on the two sides of a split: what they share, their labels, how near test is to training."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from protlm.report.blocks import Block, Cell, Figure, Paragraph, Table
from protlm.report.figures.leakage import identity_curves

NEAREST = ("split", "chain", "identity", "train_id")
_FROM = ("0.3", "0.5", "0.9", "1")
_LEAST_DRAWN = 0.3
"""Where nothing is as near, a figure would be empty."""
_HEAD = ("sequences", "median", "maximum", "≥ 30%", "≥ 50%", "≥ 90%", "copies", "no alignment")
_MOST_NAMES = 12


def leakage_blocks(splits: Mapping[str, Any], nearest: pl.DataFrame | None, name: str) -> list[Block]:
    """Show the leakage report of some splits.

    Parameters
    ----------
    splits
        By name, the facts of each, as the Run keeps them; older Runs have no identities and no balance.
    nearest
        The table ``nearest``, of these splits alone; `None` where the Run has none.
    name
        Of the task, for those who cannot see the figure.
    """
    blocks: list[Block] = [
        Paragraph(f"Leakage of split '{split}', {_shared(own)}.") for split, own in splits.items()
    ]
    rows = [
        [Cell(f"{split}, {chain}"), *_numbers(facts)]
        for split, own in splits.items()
        for chain, facts in own.get("nearest", {}).items()
    ]
    if rows:
        notes = sorted({note for own in splits.values() for note in own.get("nearest_notes", ())})
        caption = "Identity of each distinct test sequence to the nearest training sequence"
        caption += f" ({'; '.join(notes)})." if notes else "."
        blocks.append(Table(caption, ["split, chain", *_HEAD], rows))
    if (
        nearest is not None
        and not nearest.is_empty()
        and float(str(nearest["identity"].max())) >= _LEAST_DRAWN
    ):
        drawing = identity_curves(nearest).figure()
        blocks.append(Figure(drawing, f"Share of test sequences of {name} from each identity to training on"))
    return [*blocks, *(table for split, own in splits.items() for table in _balance(split, own))]


def training_identities(leakage: Mapping[str, Any]) -> list[Block]:
    """Show how near what models are judged on is to their training data.

    Parameters
    ----------
    leakage
        By model, as the Run keeps it; older Runs have no identities.
    """
    rows = [
        [Cell(f"{model}, {chain}"), *_numbers(facts)]
        for model, own in leakage.items()
        for chain, facts in own.get("nearest", {}).items()
    ]
    notes = [f"{model}: {own['nearest_note']}." for model, own in leakage.items() if own.get("nearest_note")]
    blocks: list[Block] = [Paragraph(note, tone="note") for note in notes]
    if rows:
        caption = "Identity of each distinct chain to the nearest chain of the model's training data."
        blocks.append(Table(caption, ["model, chain", *_HEAD], rows))
    return blocks


def _shared(facts: Mapping[str, Any]) -> str:
    others = "; ".join(
        f"{each['shared']:,} of {each['distinct']:,} values of '{key}'"
        for key, each in facts["shared_values"].items()
    )
    text = (
        f"on more than one side: {facts['shared_groups']:,} of {facts['num_groups']:,} groups; "
        f"{facts['shared_chains']:,} of {facts['num_chains']:,} chains"
    )
    return f"{text}{'; ' if others else ''}{others}"


def _numbers(facts: Mapping[str, float]) -> list[Cell]:
    shares = [Cell(f"{facts[f'from_{least}']:.1%}") for least in _FROM]
    ends = [Cell(f"{facts['median']:.2f}"), Cell(f"{facts['maximum']:.2f}")]
    return [Cell(f"{facts['sequences']:,.0f}"), *ends, *shares, Cell(f"{facts['none']:,.0f}")]


def _balance(split: str, facts: Mapping[str, Any]) -> list[Table]:
    """Give a table of labels by side, folded away."""
    balance = facts.get("balance")
    if not balance:
        return []
    is_value = facts.get("kind") == "value"
    names = sorted(
        {name for own in balance.values() for name in own},
        key=lambda name: (-sum(own.get(name, 0.0) for own in balance.values()), name),
    )
    names = ["low", "median", "high"] if is_value else names[:_MOST_NAMES]
    write = (lambda value: f"{value:.3g}") if is_value else (lambda value: f"{value:.1%}")
    rows = [
        [Cell(str(side)), *(Cell(write(own.get(name, 0.0))) for name in names)]
        for side, own in balance.items()
    ]
    what = "Quartiles of the values" if is_value else "Shares of the labels"
    head = {"low": "lower quartile", "high": "upper quartile"}
    caption = f"{what} by side of split '{split}'."
    return [Table(caption, ["side", *(head.get(name, name) for name in names)], rows, is_folded=True)]
