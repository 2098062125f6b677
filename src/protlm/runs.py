"""The Run folder: what a verb leaves behind, and the only thing a report reads."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from protlm.errors import RunError

FORMAT_VERSION = 1

_PACKAGES = ("protlm", "torch", "transformers", "accelerate", "peft", "numpy", "polars", "pyarrow", "immunum")


class Run:
    """One folder with fixed file names.

    ``config.yaml environment.json metrics.jsonl model/ checkpoints/ tables/*.parquet
    data_manifest.json DONE``

    Parameters
    ----------
    path
        The folder.
    writes
        Whether this process writes; where several work on one Run, one does, and in the others every
        method that writes does nothing.
    """

    def __init__(self, path: Path | str, *, writes: bool = True) -> None:
        self.path = Path(path)
        self.writes = writes

    @classmethod
    def create(cls, path: Path | str, *, verb: str, force: bool = False, writes: bool = True) -> "Run":
        """Make or reopen a folder for writing.

        Parameters
        ----------
        path
            The folder.
        verb
            The command that writes it, such as ``"pretrain"``.
        force
            Start over in a finished folder. Only files that a Run owns are removed.
        writes
            Whether this process writes. One that does not leaves checks and folder to the one that does.

        Raises
        ------
        RunError
            If the folder holds a finished Run and `force` is not given, a Run of another verb,
            or files that are no Run's.
        """
        run = cls(path, writes=writes)
        if not writes:
            return run
        if run.path.exists() and not run.path.is_dir():
            raise RunError(f"{run.path} is a file, and a Run is a folder", hint="choose another --out")
        if run.path.is_dir() and any(run.path.iterdir()):
            if not (run.path / "environment.json").exists():
                raise RunError(
                    f"{run.path} exists and is not a Run folder", hint="choose another --out, or empty it"
                )
            if run.verb != verb:
                raise RunError(
                    f"{run.path} is a '{run.verb}' Run, not a '{verb}' one", hint="choose another --out"
                )
            if run.is_done and not force:
                raise RunError(
                    f"{run.path} holds a finished '{verb}' Run",
                    hint="choose another --out, or pass --force to start over",
                )
            if force:
                run._clear()
        (run.path / "tables").mkdir(parents=True, exist_ok=True)
        run.write_json("environment.json", environment(verb))
        return run

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """Open an existing folder for reading.

        Parameters
        ----------
        path
            The folder.

        Raises
        ------
        RunError
            If there is no Run there, or one written by a later format.
        """
        run = cls(path)
        if not (run.path / "environment.json").exists():
            raise RunError(
                f"{run.path} is not a Run folder (it has no environment.json)",
                hint="a Run is what --out of pretrain, evaluate or score names",
            )
        version = run.read_json("environment.json").get("format_version", 0)
        if version > FORMAT_VERSION:
            raise RunError(
                f"{run.path} has Run format {version}; this protlm reads up to {FORMAT_VERSION}",
                hint="upgrade protlm",
            )
        return run

    @staticmethod
    def is_run(path: Path | str) -> bool:
        """Tell whether `path` is a Run folder."""
        return (Path(path) / "environment.json").exists()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def verb(self) -> str:
        """The command that wrote the folder."""
        return self.read_json("environment.json")["verb"]

    @property
    def is_done(self) -> bool:
        """Whether the Run finished."""
        return (self.path / "DONE").exists()

    @property
    def model_path(self) -> Path:
        """Where the model's files are."""
        return self.path / "model"

    @property
    def adapter_path(self) -> Path:
        """Where low-rank adapters are, if the model was trained by them; `model_path` has them merged in."""
        return self.path / "adapter"

    @property
    def checkpoints_path(self) -> Path:
        """Where resumable states are."""
        return self.path / "checkpoints"

    def table_path(self, name: str) -> Path:
        """Where the table called `name` is or goes.

        Parameters
        ----------
        name
            Without the suffix.
        """
        return self.path / "tables" / f"{name}.parquet"

    def tables(self) -> dict[str, Path]:
        """List the tables by name."""
        return {path.stem: path for path in sorted((self.path / "tables").glob("*.parquet"))}

    def write_config(self, text: str) -> None:
        """Write the resolved settings.

        Parameters
        ----------
        text
            YAML.
        """
        if self.writes:
            (self.path / "config.yaml").write_text(text, encoding="utf-8")

    def read_config(self) -> dict[str, Any]:
        """Read the resolved settings; empty where the verb has none."""
        path = self.path / "config.yaml"
        return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file whole or not at all.

        Parameters
        ----------
        name
            File name inside the folder.
        value
            Plain values.
        """
        if not self.writes:
            return
        path = self.path / name
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        part.replace(path)

    def note(self, **facts: Any) -> None:
        """Add facts to ``environment.json``, such as the device.

        Parameters
        ----------
        **facts
            Plain values.
        """
        self.write_json("environment.json", {**self.read_json("environment.json"), **facts})

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the folder.

        Parameters
        ----------
        name
            File name inside the folder.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path} has no {name}") from None

    def log(self, **values: Any) -> None:
        """Append one line to ``metrics.jsonl``.

        Parameters
        ----------
        **values
            Plain values; `step` says where.
        """
        if not self.writes:
            return
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def rewind_log(self, step: int) -> None:
        """Drop metric lines past `step`, so that a resumed Run has each step once.

        Parameters
        ----------
        step
            The last step that counts.
        """
        path = self.path / "metrics.jsonl"
        if self.writes and path.exists():
            kept = [line for line in self.metrics() if line.get("step", 0) <= step]
            part = path.with_suffix(".part")
            part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            part.replace(path)

    def metrics(self) -> Iterator[dict[str, Any]]:
        """Read the metric lines; a last line cut short by an interruption is left out."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return

    def finish(self) -> None:
        """Mark the Run as finished."""
        if not self.writes:
            return
        (self.path / "DONE").write_text(datetime.now(UTC).isoformat(timespec="seconds") + "\n")

    def _clear(self) -> None:
        owned = ["config.yaml", "metrics.jsonl", "data_manifest.json", "environment.json", "DONE"]
        folders = ["model", "adapter", "heads", "structure_encoder", "checkpoints", "tables"]
        folders += ["tensorboard", "data"]
        for file in [self.path / name for name in owned]:
            file.unlink(missing_ok=True)
        for folder in [self.path / name for name in folders]:
            for file in sorted(folder.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
            if folder.is_dir():
                folder.rmdir()


def environment(verb: str) -> dict[str, Any]:
    """Describe what ran: versions, commit, machine, command line.

    Parameters
    ----------
    verb
        The command.
    """
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "format_version": FORMAT_VERSION,
        "verb": verb,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "arguments": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "versions": versions,
        "commit": _commit(),
    }


def file_hash(path: Path) -> str:
    """Give the SHA-256 of a file, in hex.

    Parameters
    ----------
    path
        The file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str | None:
    source = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(  # noqa: S603 - our own words, no shell
            ["git", "-C", str(source), "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
