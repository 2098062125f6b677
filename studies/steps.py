"""What studies share: commands of the tool as a user gives them, and the general model."""

import subprocess
import sys
from pathlib import Path

GENERAL = Path(__file__).resolve().parents[1] / "configs/pretrain/general-cpu.yaml"


def protlm(*words: object) -> None:
    """Run a command of this installation, and show it.

    Parameters
    ----------
    words
        Of the command, behind its name.
    """
    command = [sys.executable, "-m", "protlm", *map(str, words)]
    print("+ protlm", *command[3:], flush=True)
    subprocess.run(command, check=True)


def train_general(out: Path, data: Path) -> Path:
    """Train the general model on a sample of UniRef, or take the one that is there.

    Parameters
    ----------
    out
        Folder of the study.
    data
        Folder of the data sets.

    Returns
    -------
    pathlib.Path
        The finished Run.
    """
    run, corpus = out / "general", out / "corpus"
    if not (run / "DONE").exists():
        source = data / "general_sequences/uniref90_sample.tsv.gz"
        if not corpus.exists():
            protlm("prepare", source, "--receptor", "none", "--holdout", 0.01, "--out", corpus)
        parts = (f"data.{part}={corpus}:{side}" for part, side in (("train", "train"), ("eval", "holdout")))
        protlm("pretrain", "--config", GENERAL, *(f"--set={each}" for each in parts), "--out", run)
    return run
