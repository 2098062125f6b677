"""Places to write: refused before any work is done where they cannot be written."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from protlm.errors import RunError, UserError


def claim_file(out: Path, suffixes: Sequence[str], *, force: bool) -> None:
    """Check that a result can be written, and make its folder.

    Parameters
    ----------
    out
        The file.
    suffixes
        What its name may end in.
    force
        Whether a file that is there may be replaced.

    Raises
    ------
    UserError
        If the name, the folder or a file that is there is in the way.
    """
    if out.is_dir():
        raise RunError(f"{out} is a folder", hint=f"name a file, such as {out / f'result{suffixes[0]}'}")
    if out.suffix not in suffixes:
        raise UserError(f"--out {out}: its name must end in {' or '.join(suffixes)}", hint="rename it")
    if out.exists() and not force:
        raise RunError(f"{out} exists", hint="choose another --out, or pass --force to replace it")
    _make_writable(out.parent, out)


def claim_folder(out: Path) -> None:
    """Check that a folder can be made, and make the one it goes into.

    Parameters
    ----------
    out
        The folder; whether one that is there may be replaced is for its writer to say.

    Raises
    ------
    RunError
        If a file is in the way, or the place cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file, and a folder goes there", hint="choose another --out")
    _make_writable(out.parent, out)


def _make_writable(folder: Path, out: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        raise RunError(f"cannot write {out} ({reason})", hint="choose another --out") from None
