"""Memory and rate of `protlm prepare` on links: 30 million of them between a million short proteins.

A made-up file in the form of STRING, with species, hubs, scores and one link in eleven in both orders, and a
tenth of it. Each runs in a process of its own, which tells its peak memory. Then another process opens the
corpus of pairs and draws the first batches of training.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from protlm.recipes.prepare_pairs import PairSettings, prepare_pairs
from protlm.types.alphabet import STANDARD

PROTEINS, SPECIES = 1_000_000, 100
LINKS = {"3M": 3_000_000, "30M": 30_000_000}
BLOCK = 1_000_000
SETTINGS = PairSettings(negatives="degree", min_score=400)
STEPS, STEP_TOKENS = 3, 65_536


def write_proteins(path: Path) -> None:
    """FASTA of 20 to 60 residues each; 10,000 proteins of each species."""
    random = np.random.default_rng(0)
    letters = np.frombuffer(STANDARD.encode(), dtype=np.uint8)
    with path.open("wb") as file:
        for first in range(0, PROTEINS, 100_000):
            lengths = random.integers(20, 61, 100_000)
            stops = np.cumsum(lengths)
            residues = letters[random.integers(0, 20, int(stops[-1]))].tobytes()
            file.writelines(
                b">%s\n%s\n" % (name_of(number).encode(), residues[stop - length : stop])
                for number, (length, stop) in enumerate(
                    zip(lengths.tolist(), stops.tolist(), strict=True), start=first
                )
            )


def name_of(number: int) -> str:
    return f"{1000 + number % SPECIES}.PROT{number:07d}"


def write_links(path: Path, count: int) -> None:
    """Links inside species; one end in twenty is a hub, and every eleventh row repeats one the other way."""
    random = np.random.default_rng(1)
    names = pl.Series([name_of(number) for number in range(PROTEINS)])
    each = PROTEINS // SPECIES
    with path.open("wb") as file:
        file.write(b"protein1 protein2 combined_score\n")
        for _ in range(0, count, BLOCK):
            species = random.integers(0, SPECIES, BLOCK)
            ends = random.integers(0, each, (2, BLOCK))
            ends[random.random((2, BLOCK)) < 0.05] %= 100
            repeated = np.arange(10, BLOCK, 11)
            species[repeated], ends[:, repeated] = species[repeated - 1], ends[::-1, repeated - 1]
            scores = random.integers(150, 1000, BLOCK)
            a, b = ends * SPECIES + species
            frame = pl.DataFrame({"a": names.gather(a), "b": names.gather(b), "score": scores})
            frame.write_csv(file, separator=" ", include_header=False)


def peak_megabytes() -> int:
    """Most memory that this process had since it began."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def prepare(folder: Path, name: str) -> dict[str, float]:
    begin = time.process_time()
    made = prepare_pairs(
        folder / f"{name}.txt", folder / name, sequences=[str(folder / "proteins.fasta")], settings=SETTINGS
    )
    seconds = time.process_time() - begin
    facts = made.corpus.manifest
    return {
        "seconds_of_cpu": round(seconds, 1),
        "links_per_second_of_cpu": round(LINKS[name] / seconds, -3),
        "peak_megabytes": peak_megabytes(),
        "binding": facts["subsets"]["binding"],
        "random": facts["subsets"]["random"],
        "degree_correlation": facts["pairs"]["all"]["degree_correlation"],
        "gigabytes": round(sum(each.stat().st_size for each in (folder / name).iterdir()) / 2**30, 2),
    }


def first_batches(folder: Path, name: str) -> dict[str, float]:
    """Open the corpus and draw steps of training from it."""
    from protlm.data.collate import collate
    from protlm.data.corpus import Corpus
    from protlm.data.layout import esm_layout
    from protlm.training.loop import TrainingConfig
    from protlm.training.sources import Source, Sources

    imported = peak_megabytes()
    begin = time.process_time()
    corpus, layout = Corpus(folder / name), esm_layout()
    settings = TrainingConfig(max_steps=STEPS, step_tokens=STEP_TOKENS)
    sources = Sources(
        [Source(name, corpus, np.arange(len(corpus)))], layout=layout, settings=settings, seed=0
    )
    opened = time.process_time() - begin
    tokens = 0
    for drawn in islice(sources.steps(0), STEPS):
        records, _ = sources.gather(drawn, np.arange(len(drawn.rows)))
        tokens += len(collate(records, layout).tokens)
    return {
        "records": len(corpus),
        "seconds_of_cpu_to_open": round(opened, 1),
        "seconds_of_cpu_to_the_last_of_the_first_steps": round(time.process_time() - begin, 1),
        "steps": STEPS,
        "tokens": tokens,
        "peak_megabytes": peak_megabytes(),
        "of_which_imports": imported,
    }


def in_own_process(way: str, folder: Path, name: str) -> dict[str, float]:
    command = [sys.executable, __file__, way, str(folder), name]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_proteins(folder / "proteins.fasta")
        result: dict[str, object] = {"proteins": PROTEINS, "settings": "negatives degree, min score 400"}
        for name, count in LINKS.items():
            write_links(folder / f"{name}.txt", count)
            result[f"prepare, {name} links"] = in_own_process("prepare", folder, name)
        result["first batches, 30M links"] = in_own_process("batches", folder, "30M")
    from measuring import keep  # imports torch, which `prepare` does not

    keep("prepare_pairs", result)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        way, folder, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
        print(json.dumps(prepare(folder, name) if way == "prepare" else first_batches(folder, name)))
    else:
        main()
