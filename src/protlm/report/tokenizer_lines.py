"""Measures of tokenizers as text for the terminal: each share with its 95 % interval."""

import polars as pl

from protlm.report.tables import wide_table

_COLUMNS = {
    "residues_per_token": ("residues per token", ".2f"),
    "compression": ("compression", ".1%"),
    "over_512": ("over 512", ".2%"),
    "over_1000": ("over 1,000", ".2%"),
    "over_2048": ("over 2,048", ".2%"),
    "resegmented": ("re-segmented", ".1%"),
    "resegmented_beside": ("beside", ".1%"),
    "resegmented_tokens": ("tokens re-segmented", ".2f"),
}


def tokenizer_lines(table: pl.DataFrame) -> list[str]:
    """Write a table of tokenizers, and what its columns are.

    Parameters
    ----------
    table
        From ``tokenizer bench``.
    """
    rows = table.to_dicts()
    first = rows[0]
    labels = {
        "tokenizer": [str(row["tokenizer"]) for row in rows],
    }
    columns = {"vocabulary": [f"{row['vocabulary']:,}" for row in rows]}
    columns |= {
        title: [_cell(row, name, form) for row in rows]
        for name, (title, form) in _COLUMNS.items()
        if name in table.columns
    }
    columns["sequences/s"] = [f"{row['sequences_per_second']:,.0f}" for row in rows]
    sizes = f"{first['n']:,} sequences, {first['n_residues']:,} residues"
    lines = [
        f"{sizes}; one substitution in each of {first['n_substituted']:,} [95 % interval]",
        *wide_table(labels, columns),
        "",
        "over N: sequences of more than N tokens, special ones counted; compression: 1 - tokens / residues;",
        "re-segmented: sequences in which a substitution takes away the span of a token; beside: of one that",
        "does not hold the residue; tokens re-segmented: how many spans are gone, in the mean.",
    ]
    return lines + [
        f"{row['tokenizer']}: {row['n_unknown']:,} residues are not in the vocabulary and become unknown"
        for row in rows
        if row["n_unknown"]
    ]


def _cell(row: dict[str, float], name: str, form: str) -> str:
    if row[name] is None:
        return "–"
    value, low, high = (format(row[name + end], form) for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"
