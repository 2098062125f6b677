"""CPU time of `protlm prepare` against immunum alone on the same distinct chains.

Two inputs of the same real chains (simulated ones where the developers' data is absent): a table whose
column names the locus, and FASTA, which names none. immunum alone gets the distinct chains in one polars
column and its answer is thrown away: no file is read, no label becomes a number, nothing is written.
"""

import sys
import tempfile
import time
from pathlib import Path

import immunum
import immunum.polars
import polars as pl

from measuring import SHARED, in_turns, keep, ratio
from protlm.data.readers import InputPolicy, read_records
from protlm.data.simulate import simulate_repertoire
from protlm.recipes.prepare import prepare

NUM_CHAINS = 6_000
TYPES_OF_LOCUS = {"IGH": ["H"], "IGK": ["K"], "IGL": ["L"]}


def chains_of(source: Path | None) -> pl.DataFrame:
    """Distinct chains with the locus that their source names."""
    if source is not None and source.exists():
        records = read_records(source, policy=InputPolicy(duplicate_ids="rename"))
        rows = [(chain.residues, f"IG{chain.locus}") for record in records for chain in record.chains]
    else:
        records = simulate_repertoire(NUM_CHAINS // 2, seed=1)
        rows = [(chain.residues, f"IG{chain.locus}") for record in records for chain in record.chains]
    table = pl.DataFrame(rows, schema=["sequence", "locus"], orient="row")
    return table.unique("sequence", maintain_order=True).head(NUM_CHAINS).with_row_index("id")


def immunum_alone(sequences: list[str], types: list[str]) -> None:
    annotator = immunum.Annotator(chains=types, scheme="imgt")
    frame = pl.DataFrame({"s": sequences}, schema={"s": pl.String})
    frame.select(immunum.polars.number(pl.col("s"), annotator=annotator))


def immunum_by_locus(table: pl.DataFrame) -> None:
    for (locus,), part in table.group_by("locus", maintain_order=True):
        immunum_alone(part["sequence"].to_list(), TYPES_OF_LOCUS[str(locus)])


def main() -> None:
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED / "antibody_pretrain" / "srr_hkl_10k.tsv.gz"
    table = chains_of(given)
    sequences = table["sequence"].to_list()
    with tempfile.TemporaryDirectory() as folder:
        tsv, fasta, out = Path(folder) / "x.tsv", Path(folder) / "x.fasta", Path(folder) / "corpus"
        table.write_csv(tsv, separator="\t")
        fasta.write_text("".join(f">{row[0]}\n{row[1]}\n" for row in table.iter_rows()), encoding="utf-8")
        ways = {
            "immunum, all antibody types": lambda: immunum_alone(sequences, ["ig"]),
            "immunum, the named type": lambda: immunum_by_locus(table),
            "prepare, locus named": lambda: prepare(tsv, out, germline=["none"], force=True),
            "prepare, FASTA": lambda: prepare(fasta, out, germline=["none"], force=True),
            "prepare with germline genes, FASTA": lambda: prepare(fasta, out, force=True),
        }
        seconds = in_turns(ways, clock=time.process_time)
    keep(
        "prepare_numbering",
        {
            "chains": len(sequences),
            "seconds_of_cpu": {name: min(each) for name, each in seconds.items()},
            "cpu_of_prepare_over_immunum": {
                "locus named, over all types": ratio(
                    seconds, "prepare, locus named", "immunum, all antibody types"
                ),
                "locus named, over the named type": ratio(
                    seconds, "prepare, locus named", "immunum, the named type"
                ),
                "FASTA, over all types": ratio(seconds, "prepare, FASTA", "immunum, all antibody types"),
                "FASTA with germline genes, over all types": ratio(
                    seconds, "prepare with germline genes, FASTA", "immunum, all antibody types"
                ),
            },
        },
    )


if __name__ == "__main__":
    main()
