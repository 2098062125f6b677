"""Memory and rate of `protlm prepare` on general proteins: five times the file, about the same memory.

Made-up FASTA with lengths and headers like those of UniRef90, 100,000 and 500,000 records, plain and gzip.
Each way runs in a process of its own, which tells its peak memory. The plain way makes a list of all records.
Then what opening a corpus keeps per record, and what the order of an epoch of ten million records takes.
"""

import gzip
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from protlm.data.corpus import Corpus
from protlm.data.readers import read_records
from protlm.data.sampling import StepSampler
from protlm.recipes.prepare import prepare
from protlm.types.alphabet import STANDARD

SIZES = {"100k": 100_000, "500k": 500_000}
SAMPLED, STEP_TOKENS = 10_000_000, 65_536


def fasta(num_records: int) -> Iterator[bytes]:
    """Blocks of FASTA with lines of 60 residues; median length 270, as in UniRef90."""
    random = np.random.default_rng(0)
    letters = np.frombuffer(STANDARD.encode(), dtype=np.uint8)
    for first in range(0, num_records, 10_000):
        lengths = lengths_like_uniref(random, min(10_000, num_records - first))
        stops, lines = np.cumsum(lengths), []
        residues = letters[random.integers(0, 20, int(stops[-1]))].tobytes()
        for number, (length, stop) in enumerate(
            zip(lengths.tolist(), stops.tolist(), strict=True), start=first
        ):
            lines.append(b">UniRef90_A0A%09d Uncharacterized protein n=1 Tax=Bacteria TaxID=2" % number)
            lines += [residues[at : min(at + 60, stop)] for at in range(stop - length, stop, 60)]
        yield b"\n".join(lines) + b"\n"


def lengths_like_uniref(random: np.random.Generator, count: int) -> np.ndarray:
    return np.clip(random.lognormal(5.6, 0.6, count), 30, 5000).astype(np.int64)


def write_inputs(folder: Path) -> None:
    for name, count in SIZES.items():
        with (folder / f"{name}.fasta").open("wb") as plain:
            plain.writelines(fasta(count))
    with gzip.open(folder / "100k.fasta.gz", "wb", compresslevel=1) as packed:
        packed.writelines(fasta(SIZES["100k"]))


def peak_megabytes() -> float:
    """Most memory that this process had since it began."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def one_way(way: str, source: Path, out: Path) -> None:
    """Run one way in this process and print what it took, as JSON."""
    if way == "order":
        print(json.dumps(order_of_an_epoch()))
        return
    begin = time.process_time()
    residues = 0
    if way == "list":
        residues = sum(map(len, read_records(source)))
    elif way != "nothing":
        receptor = "auto" if way == "auto" else "none"
        residues = prepare(source, out, receptor=receptor, force=True).corpus.manifest["num_residues"]
    seconds = time.process_time() - begin
    facts: dict[str, float] = {"peak_megabytes": round(peak_megabytes())}
    if residues:
        facts["residues_per_second_of_cpu"] = round(residues / seconds, -4)
    print(json.dumps(facts))


def in_own_process(way: str, source: Path, out: Path) -> dict[str, float]:
    command = [sys.executable, __file__, way, str(source), str(out)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def opening(corpus: Corpus) -> dict[str, float]:
    """Bytes per record of the arrays that training keeps."""
    corpus.gather(np.arange(len(corpus)))
    tables = (*corpus._records._lists.values(), (corpus.lengths, corpus.keys))
    arrays = [array for table in tables for array in table] + [corpus.chain_lengths, corpus._list_starts]
    return {"bytes_per_record": sum(array.nbytes for array in arrays) / len(corpus)}


def order_of_an_epoch() -> dict[str, float]:
    random = np.random.default_rng(0)
    lengths = np.minimum(lengths_like_uniref(random, SAMPLED), 1022) + 2
    keys = random.integers(0, 2**63, SAMPLED).astype(np.uint64)
    sampler = StepSampler(lengths, keys, STEP_TOKENS)
    begin, before = time.process_time(), peak_megabytes()
    num_steps = len(sampler.epoch(0))
    grown = peak_megabytes() - before
    return {
        "records": SAMPLED,
        "steps": num_steps,
        "seconds_of_cpu": round(time.process_time() - begin, 1),
        "peak_bytes_per_record_beside_lengths_and_keys": round(grown * 2**20 / SAMPLED),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_inputs(folder)
        small, large, packed = folder / "100k.fasta", folder / "500k.fasta", folder / "100k.fasta.gz"
        out = folder / "corpus"
        result = {
            "imports alone": in_own_process("nothing", small, out),
            "all records in a list, 100k": in_own_process("list", small, out),
            "all records in a list, 500k": in_own_process("list", large, out),
            "prepare, numbering auto, 100k": in_own_process("auto", small, out),
            "prepare, no numbering, 100k gzip": in_own_process("none", packed, out),
            "prepare, no numbering, 100k": in_own_process("none", small, out),
            "prepare, no numbering, 500k": in_own_process("none", large, out),
        }
        result["an open corpus"] = opening(Corpus(out))
        result["order of an epoch"] = in_own_process("order", small, out)
    from measuring import keep  # imports torch, which `prepare` does not

    keep("prepare_stream", result)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one_way(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
