"""Rows of a corpus for many pairs at once, without an object per pair."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from protlm.data.corpus import RECORD_SCHEMA
from protlm.data.hashing import combine


@dataclass(frozen=True)
class PairTables:
    """Turns numbers of proteins into records.

    The key of such a record is a hash of the contents of its chains, in order.
    """

    names: pl.Series
    """Of each protein."""
    contents: np.ndarray
    """Content hash of each, uint64."""
    chain_rows: np.ndarray
    """Row of each in the `chains` table, int64."""
    clusters: np.ndarray
    """Representative of each, int64."""

    def pairs(
        self, a: np.ndarray, b: np.ndarray, binds: np.ndarray, scores: np.ndarray | None
    ) -> pa.RecordBatch:
        """Make records ``A+B`` with the labels ``binds`` and, where it binds and there is one, ``score``.

        The group is the pair of clusters, that of the first protein before that of the second.

        Parameters
        ----------
        a, b
            Protein numbers, int64 ``[n]``.
        binds
            Whether each is known to bind, bool ``[n]``.
        scores
            Of each, float32 ``[n]``.
        """
        chains = np.stack([self.chain_rows[a], self.chain_rows[b]], axis=1)
        group = self._joined(self.clusters[a], self.clusters[b], "|")
        labels = _labels(binds, scores)
        return _batch(
            self._joined(a, b, "+"), combine(self.contents[a], self.contents[b]), chains, group, labels
        )

    def singles(self, codes: np.ndarray) -> pa.RecordBatch:
        """Make a record of one chain for each protein; the group is its cluster.

        Parameters
        ----------
        codes
            Protein numbers, int64 ``[n]``.
        """
        labels = pl.repeat("", len(codes), eager=True)
        keys, chains = combine(self.contents[codes]), self.chain_rows[codes][:, None]
        return _batch(self.names.gather(codes), keys, chains, self.names.gather(self.clusters[codes]), labels)

    def _joined(self, a: np.ndarray, b: np.ndarray, mark: str) -> pl.Series:
        return self.names.gather(a) + mark + self.names.gather(b)


def _labels(binds: np.ndarray, scores: np.ndarray | None) -> pl.Series:
    frame = pl.DataFrame({"binds": binds})
    plain = pl.when("binds").then(pl.lit('{"binds": 1}')).otherwise(pl.lit('{"binds": 0}'))
    if scores is None:
        return frame.select(plain.alias("labels"))["labels"]
    is_whole = (scores == np.floor(scores)).all()
    frame = frame.with_columns(score=pl.Series(scores.astype(np.int64) if is_whole else scores))
    scored = pl.concat_str(pl.lit('{"binds": 1, "score": '), pl.col("score").cast(pl.String), pl.lit("}"))
    return frame.select(pl.when("binds").then(scored).otherwise(plain).alias("labels"))["labels"]


def _batch(
    ids: pl.Series, keys: np.ndarray, chains: np.ndarray, groups: pl.Series, labels: pl.Series
) -> pa.RecordBatch:
    count, width = chains.shape
    offsets = pa.array(np.arange(count + 1, dtype=np.int64) * width)
    columns: Sequence[pa.Array] = [
        _text(ids),
        pa.array(keys.astype(np.uint64)),
        pa.LargeListArray.from_arrays(offsets, pa.array(chains.reshape(-1))),
        pa.LargeListArray.from_arrays(offsets, pa.array(np.zeros(count * width, dtype=np.uint8))),
        _text(groups),
        _text(labels),
        pa.array(np.ones(count, dtype=np.float32)),
    ]
    return pa.RecordBatch.from_arrays(list(columns), schema=RECORD_SCHEMA)


def _text(series: pl.Series) -> pa.Array:
    array = series.to_arrow().cast(pa.large_string())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
