"""SKEMPI: complexes with mutations, whose residues are in structure files, as pairs of partners."""

import math
import re
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from protlm.data.readers.structure import StructureChain, read_structure
from protlm.errors import DataError, did_you_mean
from protlm.evaluation.card_parts import DataSource
from protlm.evaluation.task_tables import DATASET, failed_filter, read_rows
from protlm.types.record import Chain, Record

DDG = "ddG"
"""Label with the change of the binding energy in kcal/mol; positive binds more weakly."""
_GAS_CONSTANT = 1.987204e-3
"""kcal / (mol K)."""
_ROOM = 298.0
_COLUMNS = ("Mutation(s)_PDB", "Affinity_mut_parsed", "Affinity_wt_parsed", "Temperature")
_MUTATION = re.compile(r"([A-Z])(\w)(-?\d+[a-zA-Z]?)([A-Z])")


def read_skempi(
    source: DataSource,
    paths: Mapping[str, Path],
    skip_filters: Sequence[str],
    counts: Counter[str],
    lines: list[str],
) -> list[Record]:
    """Read the table of SKEMPI 2.0 and give a pair for each row whose complex is there.

    Each partner is its chains joined end to end, in the order of the table, with the mutations put in. The
    energy is RT ln (KD of the mutant / KD of the wild type), at 298 K where no temperature is given.

    Parameters
    ----------
    source
        With a table ``structures``: an archive of PDB files, their names beginning with the id of the entry.
    paths
        Where the files are.
    skip_filters
        Filters that are not applied.
    counts
        Filled with rows left out, by reason.
    lines
        Filled with what was read.
    """
    path = paths[source.name]
    table = read_rows(source, path)
    names = [name for name in ("#Pdb", "Pdb") if name in table.columns]
    for name in (*_COLUMNS, *(() if names else ("#Pdb",))):
        if name not in table.columns:
            raise DataError(f"{path}: there is no column '{name}'", hint=did_you_mean(name, table.columns))
    rows = list(table.iter_rows(named=True))
    entries = sorted({str(row[names[0]]).split("_")[0] for row in rows})
    structures = _read_structures(paths[f"{source.name}.structures"], entries)
    records = []
    for number, row in enumerate(rows, 1):
        labels = {**row, "Pdb": row[names[0]], DATASET: source.name}
        reason = failed_filter(labels, source, skip_filters)
        if reason is None:
            reason, record = _pair(f"{source.name}:{number}", labels, structures)
            if record is not None:
                records.append(record)
        if reason is not None:
            counts[f"{source.name}: {reason}"] += 1
    lines.append(
        f"{source.name}: {len(rows):,} rows read, {len(records):,} mutants of {len(structures):,} complexes "
        "whose structure is there"
    )
    return records


def _read_structures(path: Path, entries: Sequence[str]) -> dict[str, dict[str, StructureChain]]:
    """Read the chains of each entry, from all files of an archive that begin with its id."""
    found: dict[str, dict[str, StructureChain]] = {}
    with TemporaryDirectory() as folder, tarfile.open(path) as opened:
        for member in opened:
            name = Path(member.name).name
            entry = name[:4].upper()
            content = opened.extractfile(member) if member.isreg() and name.endswith(".pdb") else None
            if content is None or entry not in entries:
                continue
            place = Path(folder) / "one.pdb"
            place.write_bytes(content.read())
            found.setdefault(entry, {}).update({each.chain_id: each for each in read_structure(place).chains})
    return found


def _pair(
    name: str, row: Mapping[str, Any], structures: Mapping[str, Mapping[str, StructureChain]]
) -> tuple[str | None, Record | None]:
    """Give why a row is left out, or its record."""
    entry, *partners = str(row["Pdb"]).split("_")
    if entry not in structures:
        return "the structure of its complex is not there", None
    energy = _energy(row)
    if energy is None:
        return "an affinity is missing", None
    chains = {each: list(found.residues) for each, found in structures[entry].items()}
    if len(partners) != 2 or any(each not in chains for each in "".join(partners)):
        return "a chain is not in the structure", None
    for text in str(row["Mutation(s)_PDB"]).split(","):
        found = _MUTATION.fullmatch(text.strip())
        if found is None or found[2] not in chains:
            return "a mutation cannot be read", None
        places = [each.upper() for each in structures[entry][found[2]].residue_ids]
        if found[3].upper() not in places:
            return "a mutated residue is not resolved", None
        index = places.index(found[3].upper())
        if structures[entry][found[2]].residues[index] != found[1]:
            return "the wild-type residue is another one in the structure", None
        chains[found[2]][index] = found[4]
    sides = tuple(Chain("".join("".join(chains[each]) for each in partner)) for partner in partners)
    return None, Record(name, sides, labels={**row, DDG: str(energy)})


def _energy(row: Mapping[str, Any]) -> float | None:
    try:
        mutant, wild = float(row["Affinity_mut_parsed"] or ""), float(row["Affinity_wt_parsed"] or "")
    except ValueError:
        return None
    if mutant <= 0 or wild <= 0:
        return None
    given = re.match(r"\d+", str(row["Temperature"] or ""))
    kelvin = float(given[0]) if given else _ROOM
    return _GAS_CONSTANT * kelvin * math.log(mutant / wild)
