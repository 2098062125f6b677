"""What every registered reader must do: order, ids, the last record, gzip, a plain error."""

import gzip

import polars as pl
import pytest

from protlm.data.readers import READERS, read_records
from protlm.errors import DataError

IDS = ["one", "two", "three"]
SEQUENCES = ["MKT", "GGW", "AYIAK"]


def write(path, suffix):
    if suffix == ".parquet":
        pl.DataFrame({"id": IDS, "sequence": SEQUENCES}).write_parquet(path)
    elif suffix in (".csv", ".tsv", ".txt"):
        mark = "," if suffix == ".csv" else "\t"
        lines = [f"{name}{mark}{text}" for name, text in zip(IDS, SEQUENCES, strict=True)]
        path.write_text("\n".join([f"id{mark}sequence", *lines]))  # no line end after the last record
    else:
        path.write_text("\n".join(f">{name}\n{text}" for name, text in zip(IDS, SEQUENCES, strict=True)))
    return path


@pytest.mark.parametrize("suffix", sorted(READERS))
def test_records_come_in_order_with_their_ids_down_to_the_last(suffix, tmp_path):
    records = read_records(write(tmp_path / f"file{suffix}", suffix))
    assert [record.id for record in records] == IDS
    assert [record.chains[0].residues for record in records] == SEQUENCES


@pytest.mark.parametrize("suffix", sorted(set(READERS) - {".parquet"}))
def test_gzip_is_read_and_a_truncated_file_is_a_plain_error(suffix, tmp_path):
    plain = write(tmp_path / f"file{suffix}", suffix)
    packed = tmp_path / f"file{suffix}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes() * 1))
    assert [record.id for record in read_records(packed)] == IDS
    packed.write_bytes(packed.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"file.*\.gz: .*(ends too early|not readable)"):
        read_records(packed)


@pytest.mark.parametrize("suffix", sorted(READERS))
def test_an_empty_file_is_a_plain_error(suffix, tmp_path):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="file"):
        read_records(path)
