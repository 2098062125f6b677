"""What studies share: their two folders, commands of the tool, the general model, tables at the end."""

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import polars as pl

HERE = Path(__file__).resolve().parent
GENERAL = HERE.parent / "configs/pretrain/general-cpu.yaml"
DATA = HERE.parents[1] / "shared/data"


def folder_parser(about: str | None) -> argparse.ArgumentParser:
    """Make the parser of a study: where results go, and where the data sets are.

    Parameters
    ----------
    about
        Its docstring.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("data_folder", type=Path, nargs="?", default=DATA)
    return parser


def keep_tables(tables: Mapping[str, pl.DataFrame], out: Path) -> None:
    """Write each table as CSV into a folder, and print it.

    Parameters
    ----------
    tables
        By the name of their file.
    out
        Folder of the study.
    """
    for name, table in tables.items():
        table.write_csv(out / f"{name}.csv", float_precision=5)
        with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=240, tbl_hide_dataframe_shape=True):
            print(f"\n{name}\n{table}", flush=True)


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
