"""Rows of a score table, told apart by what they change: substitutions, whole sequences, no score."""

import re
from collections import Counter

import numpy as np
import polars as pl

from protlm.errors import DataError
from protlm.types.alphabet import clean_residues
from protlm.types.variant import Variant, parse_variant, variant_of_sequence

MUTANT_COLUMNS = ("mutant", "variant", "mutation", "mutations")
KINDS = ("1", "2", "3", "4", "5+")
"""Numbers of substitutions that are shown apart."""
WILD_TYPE, INDEL = "wild type", "indel"
_SEQUENCE = r"^[A-Za-z.\-]{4,}\*?$"
_NO_RESIDUES = str.maketrans("", "", "-.*")
_LENGTH_CHANGE = r"^[+-][0-9]+ residues$"


def score_rows(
    frame: pl.DataFrame, wild_type: str, offset: int = 0, *, column: str | None = None
) -> pl.DataFrame:
    """Tell the rows of a score table apart.

    Parameters
    ----------
    frame
        Variants, ``score``, and perhaps ``note``.
    wild_type
        Residues of the reference.
    offset
        Subtracted from each printed position to give the 1-based one.
    column
        Which column holds the variants; where not said, the first usual name or the first that does.

    Returns
    -------
    polars.DataFrame
        A line per row: ``text`` of the variant, ``score`` (null where there is none), ``kind`` (one of
        `KINDS`, `WILD_TYPE` or `INDEL`), and ``has_stop``.

    Raises
    ------
    DataError
        If no column holds variants of this wild type.

    Examples
    --------
    >>> table = pl.DataFrame({"mutant": ["M1L", "K2E:M1L", "WT"], "score": [-0.5, None, 0.0]})
    >>> score_rows(table, "MK")["kind"].to_list()
    ['1', '2', 'wild type']
    """
    score = pl.col("score").cast(pl.Float64, strict=False).fill_nan(None)
    scored = frame.select(pl.all().exclude("score"), score=score)
    known = scored.filter(pl.col("score").is_not_null())
    column = column or variant_column(scored if known.is_empty() else known, wild_type, offset)
    note = pl.col("note").cast(pl.String) if "note" in frame.columns else pl.lit(None, pl.String)
    text = pl.col("text").str.to_uppercase()
    part = pl.element().str.strip_chars()
    is_change = (part.str.head(1) != part.str.tail(1)) & (part.str.tail(1) != "=")
    rows = scored.select(
        text=pl.col(column).cast(pl.String).fill_null("").str.strip_chars(),
        score="score",
        is_indel=note.str.contains(_LENGTH_CHANGE).fill_null(value=False),
    )
    rows = rows.with_columns(
        is_sequence=pl.col("text").str.contains(_SEQUENCE),
        number=pl.when(text.is_in(["", "WT"]))
        .then(0)
        .otherwise(text.str.split(":").list.eval(is_change).list.sum()),
        has_stop=pl.col("text").str.contains(r"\*(:|$)"),
    )
    rows = rows.with_columns(number=_numbers(rows, wild_type))
    most = len(KINDS)
    number = pl.col("number")
    kind = (
        pl.when(pl.col("is_indel") | (number < 0))
        .then(pl.lit(INDEL))
        .when(number == 0)
        .then(pl.lit(WILD_TYPE))
        .when(number >= most)
        .then(pl.lit(KINDS[-1]))
        .otherwise(number.cast(pl.String))
    )
    return rows.select("text", "score", kind.alias("kind"), "has_stop")


def read_row(text: str, wild_type: str, offset: int = 0) -> Variant:
    """Read a variant as a score table has it: substitutions, or a whole sequence.

    Parameters
    ----------
    text
        Such as ``A42G:K50R``.
    wild_type
        Residues of the reference.
    offset
        Subtracted from each printed position.

    Examples
    --------
    >>> read_row("MKTW", "MKTA").label()
    'A4W'
    """
    if re.match(_SEQUENCE, text):
        return variant_of_sequence(clean_residues(text, gaps="remove", counts=Counter()), wild_type)
    return parse_variant(text, wild_type, offset=offset)


def variant_column(frame: pl.DataFrame, wild_type: str, offset: int) -> str:
    """Find the column of variants: the first usual name, else the first that holds them.

    Parameters
    ----------
    frame
        Any columns.
    wild_type
        Residues of the reference.
    offset
        Subtracted from each printed position.

    Raises
    ------
    DataError
        If there is none.
    """
    usual = [name for name in MUTANT_COLUMNS if name in frame.columns]
    others = [name for name, kind in frame.schema.items() if kind == pl.String and name not in usual]
    for name in [*usual, *others]:
        if _holds_variants(frame[name], wild_type, offset):
            return name
    raise DataError(
        f"no column holds variants of the wild type {wild_type[:10]}… (offset {offset})",
        hint="a score table has them in the column that protlm score was given",
    )


def _holds_variants(values: pl.Series, wild_type: str, offset: int) -> bool:
    try:
        parsed = [
            parse_variant(str(value), wild_type, offset=offset) for value in values.drop_nulls().head(20)
        ]
    except DataError:
        return False
    return any(variant.mutations for variant in parsed)


def _numbers(rows: pl.DataFrame, wild_type: str) -> pl.Series:
    """Count the substitutions of whole sequences too; -1 where the length differs."""
    numbers = rows["number"].cast(pl.Int64)
    places = np.flatnonzero(rows["is_sequence"].to_numpy())
    if not len(places):
        return numbers
    counted = numbers.to_numpy().copy()
    reference = np.frombuffer(wild_type.encode(), dtype=np.uint8)
    for place, text in zip(places, rows["text"].gather(places).to_list(), strict=True):
        residues = np.frombuffer(text.upper().translate(_NO_RESIDUES).encode(), dtype=np.uint8)
        counted[place] = (residues != reference).sum() if len(residues) == len(reference) else -1
    return pl.Series("number", counted)
