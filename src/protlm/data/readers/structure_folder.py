"""A folder of structure files, by name."""

from pathlib import Path

from protlm.data.readers.structure import SUFFIXES
from protlm.errors import DataError

_SUFFIXES = tuple(suffix + packed for suffix in SUFFIXES for packed in (".gz", ""))


def structure_name(path: Path) -> str | None:
    """Give the name of a structure file without its suffixes; nothing if it is none.

    Parameters
    ----------
    path
        Any; upper and lower case are one.

    Examples
    --------
    >>> structure_name(Path("1ABC.PDB.gz")), structure_name(Path("notes.txt"))
    ('1ABC', None)
    """
    suffix = next((each for each in _SUFFIXES if path.name.lower().endswith(each)), None)
    if suffix is None or path.name.startswith("."):
        return None
    return path.name[: -len(suffix)] or None


def is_broken_link(path: Path) -> bool:
    """Tell whether a path is a link to what is not there.

    Parameters
    ----------
    path
        Any.
    """
    return path.is_symlink() and not path.exists()


def find_structures(folder: Path) -> dict[str, Path]:
    """Give the structure files of a folder and of those in it, by name, sorted.

    Parameters
    ----------
    folder
        Files that are no structures are passed over, and so are hidden ones. Links to files that are not
        there are given, so that whoever reads them says so.

    Raises
    ------
    DataError
        If there is none, or two have one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = structure_name(path)
        if name is None or not (path.is_file() or is_broken_link(path)):
            continue
        if name in found:
            raise DataError(
                f"{folder} has structure '{name}' twice: {found[name].relative_to(folder)} and "
                f"{path.relative_to(folder)}",
                hint="keep one of them, or name the folder that has only one of each",
            )
        found[name] = path
    if not found:
        raise DataError(
            f"{folder} has no structure file",
            hint=f"expected names that end in {', '.join(SUFFIXES)}, or .gz",
        )
    return found
