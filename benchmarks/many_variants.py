"""What a variant costs beside the model, from a thousand to a million of them; and the memory they take.

    python benchmarks/many_variants.py

Random double mutants of a protein of 238 residues in a CSV file: read and checked, planned, put together and
written to Parquet by `protlm score`'s own functions, under ``masked_marginal``. The model is tiny, since its
238 contexts are the same for any number of variants; its seconds are kept apart. Then the multi-mutants of
avGFP under ``joint``, where a set of sites has a context of its own, all of them and a tenth. Every job has
a process of its own; memory is how much the peak grew over that of a small job. CPU seconds.
"""

import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import SHARED, keep
from protlm.models.architectures import EsmArchitecture
from protlm.models.language_model import LanguageModel
from protlm.recipes import score_run
from protlm.recipes.score_output import write_scores
from protlm.recipes.score_table import score_table
from protlm.scoring.inputs import read_variants
from protlm.scoring.wild_type import WildType
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record

SIZES = (1_000, 10_000, 100_000, 1_000_000)
AVGFP = (
    "SKGEELFTGVVPILVELDGDVNGHKFSVSGEGEGDATYGKLTLKFICTTGKLPVPWPTLVTTLSYGVQCFSRYPDHMKQHDFFKSAMPEGYVQERTIFFKDDG"
    "NYKTRAEVKFEGDTLVNRIELKGIDFKEDGNILGHKLEYNYNSHNVYIMADKQKNGIKVNFKIRHNIEDGSVQLADHYQQNTPIGDGPVLLPDNHYLSTQSAL"
    "SKDPNEKRDHMVLLEFVTAAGITHGMDELYK"
)


def main() -> None:
    doubles = {f"{size:,}": in_a_process("doubles", size) for size in SIZES}
    costs = [each["microseconds a variant"]["all"] for each in doubles.values()]
    result: dict[str, Any] = {
        "doubles": doubles,
        "cost of a variant, a million against ten thousand": costs[-1] / costs[1],
    }
    if (SHARED / "dms" / "avgfp.tsv.gz").exists():
        result["avGFP, joint"] = {f"{size:,}": in_a_process("avgfp", size) for size in (5_171, 51_714)}
    keep("many_variants", result)


def in_a_process(kind: str, size: int) -> dict[str, Any]:
    command = [sys.executable, __file__, kind, str(size)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.strip().rpartition("\n")[2])


def job(kind: str, size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = avgfp(size) if kind == "avgfp" else doubles(size)
        path, small = folder / "variants.csv", folder / "small.csv"
        path.write_text("mutant\n" + "\n".join(texts) + "\n", encoding="utf-8")
        small.write_text("mutant\n" + "\n".join(texts[:100]) + "\n", encoding="utf-8")
        del texts
        fill = "joint" if kind == "avgfp" else "wildtype"
        model, wild_type = tiny(), WildType(Record("avGFP", (Chain(AVGFP),)))
        score(model, wild_type, small, folder / "small.parquet", fill)
        before, in_model[0] = peak(), 0.0
        begin = time.process_time()
        seconds = score(model, wild_type, path, folder / "scores.parquet", fill)
        seconds["all"] = time.process_time() - begin - in_model[0]
        facts = {
            "microseconds a variant": {each: 1e6 * value / size for each, value in seconds.items()},
            "seconds in the model": in_model[0],
            "peak memory grew by, MB": peak() - before,
        }
        print(json.dumps(facts))


def score(model: LanguageModel, wild_type: WildType, path: Path, out: Path, fill: str) -> dict[str, float]:
    """Do what ``protlm score`` does, and give the CPU seconds of its stages, those of the model left out."""
    start = time.process_time()
    table = read_variants(path, wild_type)
    read, in_model[0] = time.process_time(), 0.0
    frame, _ = score_table([model], table, wild_type, fill=fill)
    scored = time.process_time()
    write_scores(frame, out, {})
    written = time.process_time()
    return {
        "reading": read - start,
        "planning and adding up": scored - read - in_model[0],
        "writing": written - scored,
    }


in_model = [0.0]
_run_contexts = score_run.run_contexts


def timed_run_contexts(*given: Any, **options: Any) -> Any:
    begin = time.process_time()
    found = _run_contexts(*given, **options)
    in_model[0] += time.process_time() - begin
    return found


score_run.run_contexts = timed_run_contexts


def doubles(size: int) -> list[str]:
    rng = random.Random(0)
    pairs = (sorted(rng.sample(range(len(AVGFP)), 2)) for _ in range(size))
    return [":".join(substitution(rng, site) for site in pair) for pair in pairs]


def substitution(rng: random.Random, site: int) -> str:
    letter = rng.choice(STANDARD.replace(AVGFP[site], ""))
    return f"{AVGFP[site]}{site + 1}{letter}"


def avgfp(size: int) -> list[str]:
    with gzip.open(SHARED / "dms" / "avgfp.tsv.gz", "rt") as lines:
        next(lines)
        texts = [line.split("\t")[0] for line in lines]
    texts = [text for text in texts if "*" not in text]
    return random.Random(0).sample(texts, min(size, len(texts)))


def tiny() -> LanguageModel:
    return EsmArchitecture.Config(num_layers=1, hidden_size=16, num_heads=1).build(seed=0).eval()


def peak() -> float:
    """Largest resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1 << 10 if sys.platform == "linux" else 1 << 20
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        job(sys.argv[1], int(sys.argv[2]))
    else:
        main()
