"""A long table written part by part, so that an interruption loses one part and memory holds one part."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

_ROW_GROUP = 1 << 17


class TableParts:
    """Finished parts of a table that is not finished, by number.

    Parameters
    ----------
    folder
        Where they are; made when the first is written. Name it after all that the parts depend on, so
        that parts of other models, records or settings are never taken up.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, number: int) -> bool:
        """Tell whether a part is finished.

        Parameters
        ----------
        number
            From 0.
        """
        return self._path(number).exists()

    def write(self, number: int, part: pl.DataFrame) -> None:
        """Keep a finished part, whole or not at all.

        Parameters
        ----------
        number
            From 0.
        part
            Its rows.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(number)
        unfinished = path.with_suffix(".unfinished")
        part.write_parquet(unfinished)
        unfinished.replace(path)

    def read(self, number: int) -> pl.DataFrame:
        """Give a finished part.

        Parameters
        ----------
        number
            From 0.
        """
        return pl.read_parquet(self._path(number))

    def files(self) -> list[Path]:
        """List the finished parts in order."""
        return sorted(self.folder.glob("??????.parquet"))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"


def join_parts(tables: Iterable[TableParts], out: Path) -> None:
    """Write the parts one after another to one Parquet file, whole or not at all, in large row groups.

    Parameters
    ----------
    tables
        In order; at least one part in all, of one schema.
    out
        The file.
    """
    files = [file for table in tables for file in table.files()]
    unfinished = out.with_name(out.name + ".part")
    with pq.ParquetWriter(unfinished, pq.read_schema(files[0]), compression="zstd") as writer:
        waiting: list[pa.Table] = []
        for file in files:
            waiting.append(pq.read_table(file))
            if sum(len(table) for table in waiting) >= _ROW_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
    unfinished.replace(out)


def discard(folder: Path) -> None:
    """Remove a folder of parts that have been joined.

    Parameters
    ----------
    folder
        Of one or several `TableParts`.
    """
    shutil.rmtree(folder, ignore_errors=True)
