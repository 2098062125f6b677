"""Backbones as a Parquet file: coordinates in hundredths of an ångström, about their centre.

A row has `id`, `sequence`, `n_res`, `residue_ids` (with commas; empty where not resolved) and
`backbone_xyz`: little-endian int16 ``[n_res, 4, 3]`` (N, CA, C, O), 0.01 Å, about the centroid of the CA
atoms; -32768 where an atom is not resolved. Several chains lie one behind the other, named and measured by
`chain_ids` and `chain_lengths`. All other columns are labels.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from protlm.errors import DataError
from protlm.types.alphabet import ResidueError, clean_residues
from protlm.types.structure import ATOMS, Backbone

MISSING = -32768
"""In place of a coordinate that is not there."""
UNIT = 0.01
"""Å."""
REACH = 32767
"""Units from the centre that can be written: 327.67 Å."""
ROW_GROUP = 256
"""Backbones that are read together."""

_SCHEMA = (
    ("id", pa.string()),
    ("sequence", pa.large_string()),
    ("n_res", pa.int32()),
    ("residue_ids", pa.large_string()),
    ("chain_ids", pa.list_(pa.string())),
    ("chain_lengths", pa.list_(pa.int32())),
    ("backbone_xyz", pa.large_binary()),
)
OWN = frozenset(name for name, _ in _SCHEMA)
"""Columns that are no labels."""
_NEEDED = ("sequence", "n_res", "backbone_xyz")
_NAMES = (("id",), ("name",), ("pdb", "chain"), ("case", "state", "chain"))
"""Columns that name a backbone, where the first is there."""
_KEPT_GROUPS = 64


def encode_coordinates(backbone: Backbone) -> bytes:
    """Give the `backbone_xyz` of a backbone.

    Parameters
    ----------
    backbone
        Of which each coordinate changes by at most 0.005 Å, after its centre is taken to 0.

    Raises
    ------
    DataError
        If an atom is further than 327.67 Å from the centre along an axis.
    """
    centred = _centred(backbone.coordinates)
    if not fits(backbone.coordinates):
        furthest = np.nanmax(np.abs(centred)) * UNIT
        raise DataError(
            f"backbone '{backbone.id}' reaches {furthest:,.0f} Å from its centre, and a table of backbones "
            f"{REACH * UNIT:.2f} Å",
            hint="take fewer of its chains, or a region",
        )
    return np.where(np.isnan(centred), MISSING, centred).astype("<i2").tobytes()


def fits(coordinates: np.ndarray) -> bool:
    """Tell whether no atom is too far from the centre for `encode_coordinates`.

    Parameters
    ----------
    coordinates
        Å, [residues, 4, 3].
    """
    return bool(np.nanmax(np.abs(_centred(coordinates)), initial=0.0) <= REACH)


def _centred(coordinates: np.ndarray) -> np.ndarray:
    """Give whole units from the centroid of CA, float64."""
    places = coordinates.astype(np.float64)
    alpha = places[:, ATOMS.index("CA")]
    known = alpha[~np.isnan(alpha).any(axis=1)]
    centre = known.mean(axis=0) if len(known) else np.zeros(3)
    return np.rint((places - centre) / UNIT)


class BackboneWriter:
    """Writes backbones one after another; the file appears when all are written.

    Parameters
    ----------
    path
        The file to make, ending in .parquet.
    labels
        Columns beside, with their kinds.
    """

    def __init__(self, path: Path, labels: Mapping[str, pa.DataType] | None = None) -> None:
        self.path, self._labels = path, dict(labels or {})
        if taken := OWN & self._labels.keys():
            raise DataError(
                f"label '{min(taken)}' has the name of a column of {path.name}", hint="rename the label"
            )
        self._schema = pa.schema([*_SCHEMA, *self._labels.items()])
        self._part = path.with_name(f"{path.name}.part-{os.getpid()}")
        self._writer = pq.ParquetWriter(self._part, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self.num_rows = 0

    def add(self, backbone: Backbone, labels: Mapping[str, Any] | None = None) -> None:
        """Append a backbone.

        Parameters
        ----------
        backbone
            One that fits, see `encode_coordinates`.
        labels
            Values of the columns beside; those that are absent are null.
        """
        labels = labels or {}
        ids = backbone.residue_ids or ("",) * len(backbone)
        row = {
            "id": backbone.id,
            "sequence": backbone.residues,
            "n_res": len(backbone),
            "residue_ids": ",".join(ids),
            "chain_ids": list(backbone.chain_ids),
            "chain_lengths": np.bincount(backbone.chain_index).tolist(),
            "backbone_xyz": encode_coordinates(backbone),
        }
        self._rows.append(row | {name: labels.get(name) for name in self._labels})
        self.num_rows += 1
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def close(self) -> None:
        """Finish the file and move it into place; a second call does nothing."""
        if self._writer.is_open:
            self._flush()
            self._writer.close()
            self._part.replace(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        self._writer.close()
        self._part.unlink(missing_ok=True)


class BackboneTable:
    """A Parquet file of backbones, read by groups of rows as they are asked for.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    DataError
        If it is no such file, or a sequence, its residue ids and its coordinates differ in length.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(
                f"{path} cannot be read as Parquet ({str(error).splitlines()[0]})", hint="fetch it again"
            ) from None
        names = self._file.schema_arrow.names
        if absent := [name for name in _NEEDED if name not in names]:
            raise DataError(
                f"{path} is no table of backbones: it has no column {', '.join(absent)}",
                hint=f"its columns are {', '.join(names)}; see docs/structures.md",
            )
        light = [name for name in names if name not in {"backbone_xyz", "residue_ids", "sequence"}]
        table = pl.DataFrame(self._table(self._file.read, light))
        self.lengths = table["n_res"].fill_null(0).to_numpy().astype(np.int64)
        self.ids = self._ids(table)
        self.labels = table.select([name for name in table.columns if name not in OWN])
        self._chains = table["chain"].cast(pl.String).to_list() if "chain" in names else None
        self._columns = [name for name in names if name in OWN]
        counts = [self._file.metadata.row_group(n).num_rows for n in range(self._file.num_row_groups)]
        self._stops = np.cumsum(counts)
        self._groups: OrderedDict[int, dict[str, list[Any]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.lengths)

    def sequences(self) -> list[str]:
        """Give the residues of each, chains one behind the other."""
        return self._table(self._file.read, ["sequence"])["sequence"].to_pylist()

    def read(self, row: int) -> Backbone:
        """Give one backbone.

        Parameters
        ----------
        row
            0-based.
        """
        group = int(np.searchsorted(self._stops, row, side="right"))
        values = self._group(group)
        within = row - (int(self._stops[group - 1]) if group else 0)
        return self._backbone(row, {name: column[within] for name, column in values.items()})

    def _table(self, read: Callable[..., pa.Table], *places: Any, **options: Any) -> pa.Table:
        """Read some of it; damage is seen only then."""
        try:
            return read(*places, **options)
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{self.path} is damaged ({str(error).splitlines()[0]})", hint="fetch it again"
            ) from None

    def _group(self, number: int) -> dict[str, list[Any]]:
        if number not in self._groups:
            self._groups[number] = self._table(
                self._file.read_row_group, number, columns=self._columns
            ).to_pydict()
            if len(self._groups) > _KEPT_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(number)
        return self._groups[number]

    def _backbone(self, row: int, values: dict[str, Any]) -> Backbone:
        where = f"{self.path}, row {row + 1}, '{self.ids[row]}'"
        if absent := [name for name in _NEEDED if values[name] is None]:
            raise DataError(f"{where} has no {absent[0]}", hint="leave the row out, or make the file again")
        try:
            residues = clean_residues(values["sequence"])
        except ResidueError as error:
            raise DataError(f"{where}: {error.message}", hint=error.hint) from None
        size, packed = int(self.lengths[row]), values["backbone_xyz"]
        if len(residues) != size or len(packed) != size * len(ATOMS) * 3 * 2:
            raise DataError(
                f"{where}: n_res is {size:,}, but the sequence has {len(residues):,} residues and "
                f"backbone_xyz {len(packed):,} bytes (expected {size * len(ATOMS) * 3 * 2:,})",
                hint="residues and coordinates would not belong together; make the file again",
            )
        units = np.frombuffer(packed, dtype="<i2").reshape(size, len(ATOMS), 3)
        places = np.where(units == MISSING, np.float32(np.nan), units.astype(np.float32) / np.float32(100))
        chain_ids, chain_lengths = values.get("chain_ids"), values.get("chain_lengths")
        if not chain_lengths or chain_ids is None:
            chain_ids, chain_lengths = [self._chains[row] or "" if self._chains else "A"], [size]
        is_odd = None in chain_ids or any(each is None or each < 1 for each in chain_lengths)
        if is_odd or sum(chain_lengths) != size or len(chain_ids) != len(chain_lengths):
            raise DataError(
                f"{where}: chains {', '.join(map(str, chain_ids))} have "
                f"{', '.join(map(str, chain_lengths))} residues, and the sequence {size:,}",
                hint="make the file again",
            )
        ids = tuple(values["residue_ids"].split(",")) if values.get("residue_ids") is not None else ()
        if ids and len(ids) != size:
            raise DataError(
                f"{where}: {len(ids):,} residue ids for {size:,} residues", hint="make the file again"
            )
        index = np.repeat(np.arange(len(chain_ids)), chain_lengths)
        return Backbone(self.ids[row], residues, places, index, tuple(chain_ids), ids if any(ids) else ())

    def _ids(self, table: pl.DataFrame) -> tuple[str, ...]:
        names = next((names for names in _NAMES if names[0] in table.columns), None)
        if names is None:
            raise DataError(
                f"{self.path} has no column that names a backbone (id, name, pdb or case)",
                hint=f"its columns are {', '.join(table.columns)}",
            )
        parts = [
            table[name].cast(pl.String).fill_null("").to_list() for name in names if name in table.columns
        ]
        return tuple("_".join(each) for each in zip(*parts, strict=True))
