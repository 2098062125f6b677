"""The summary table of SAbDab: which chains of which structure are heavy, light and antigen."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protlm.data.readers.text import read_lines
from protlm.errors import DataError

_NONE = ("", "NA", "None", "nan")
_NEEDED = ("pdb", "hchain", "lchain")
_LABELS = (
    *("method", "heavy_species", "light_species", "antigen_species", "antigen_name", "antigen_type"),
    *("light_ctype", "date"),
)
_PROTEINS = ("protein", "peptide")


@dataclass(frozen=True)
class SummaryRow:
    """One antibody of one structure."""

    line: int
    """In the file, 1-based."""
    pdb: str
    heavy: str
    """Author's chain id, case-sensitive; empty for none. The same as `light` in an scFv of one chain."""
    light: str
    antigens: tuple[str, ...] = ()
    """Those that are proteins or peptides, where the table has `antigen_type`."""
    other_antigens: tuple[str, ...] = ()
    """Those that are something else."""
    model: int = 1
    """1-based; SAbDab counts from 0."""
    labels: dict[str, str | float] = field(default_factory=dict, compare=False)
    """Of these names what the table has: `resolution` in Å, `method`, species of the chains and so on."""


def read_summary(path: Path) -> list[SummaryRow]:
    """Read the rows of a SAbDab summary.

    Parameters
    ----------
    path
        Tab-separated, with the columns pdb, Hchain and Lchain at least; antigen_chain ("A | B"), model,
        antigen_type, resolution and others are read where they are. Upper and lower case of the names are
        one. ``NA`` is nothing.

    Returns
    -------
    list of SummaryRow
        As in the file; rows may be alike.

    Raises
    ------
    DataError
        If it is no such table, a row has another number of cells, no chain, or a model that is no number.
    """
    lines = [(number, line.split("\t")) for number, line in enumerate(read_lines(path), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty", hint="download the summary again")
    header = [name.strip().lower() for name in lines[0][1]]
    if absent := [name for name in _NEEDED if name not in header]:
        raise DataError(
            f"{path} is no SAbDab summary: it has no column {', '.join(absent)}",
            hint=f"its columns, by tabs, are {', '.join(lines[0][1])[:300]}",
        )
    return [_row(path, number, header, cells) for number, cells in lines[1:]]


def _row(path: Path, number: int, header: Sequence[str], cells: Sequence[str]) -> SummaryRow:
    where = f"{path}, line {number:,}"
    if len(cells) != len(header):
        raise DataError(
            f"{where}: {len(cells)} cells, expected {len(header)}", hint="the table is tab-separated; mend it"
        )
    texts = {
        name: "" if cell.strip() in _NONE else cell.strip() for name, cell in zip(header, cells, strict=True)
    }
    if not texts["pdb"] or not (texts["hchain"] or texts["lchain"]):
        raise DataError(
            f"{where}: pdb '{texts['pdb']}', Hchain '{texts['hchain']}', Lchain '{texts['lchain']}' name no "
            "antibody",
            hint="a row needs a pdb and one of the chains",
        )
    model = texts.get("model") or "0"
    if not model.isdecimal():
        raise DataError(f"{where}: model '{model}' is no number", hint="SAbDab counts models from 0")
    antigens, others = _antigens(texts)
    labels: dict[str, str | float] = {name: texts[name] for name in _LABELS if texts.get(name)}
    if (resolution := _resolution(texts.get("resolution", ""))) is not None:
        labels["resolution"] = resolution
    return SummaryRow(
        number, texts["pdb"], texts["hchain"], texts["lchain"], antigens, others, int(model) + 1, labels
    )


def _antigens(texts: dict[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give antigen chains that are proteins, and others."""
    ids = _parts(texts.get("antigen_chain", ""))
    kinds = [each.lower() for each in _parts(texts.get("antigen_type", ""))]
    kinds = kinds * len(ids) if len(kinds) == 1 else kinds
    if len(kinds) != len(ids):  # not told, or not for each
        kinds = [_PROTEINS[0]] * len(ids)
    kind_of = dict(zip(ids, kinds, strict=True))
    proteins = tuple(each for each, kind in kind_of.items() if kind in _PROTEINS)
    return proteins, tuple(each for each in kind_of if each not in proteins)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split("|") if part.strip()]


def _resolution(text: str) -> float | None:
    """Give Å, of several the first; nothing where the method has none (NMR: NOT)."""
    try:
        return float(text.split(",")[0])
    except ValueError:
        return None
