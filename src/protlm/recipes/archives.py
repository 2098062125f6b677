"""Archives unpacked without trusting what they say: plain files inside the folder, or nothing at all."""

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from protlm.errors import ModelError

_PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
"""Files of `torch.save` are zip files inside, but no archives to unpack."""
_CONFLICTS = (FileExistsError, IsADirectoryError, NotADirectoryError)
"""What members raise that are file and folder at once."""


@dataclass(frozen=True)
class _Member:
    """One entry of an archive."""

    name: str
    size: int
    kind: str
    """``file``, ``folder``, or what else it is."""
    open: Callable[[], IO[bytes] | None]


def is_archive(path: Path) -> bool:
    """Tell whether a file is a tar or zip archive.

    Parameters
    ----------
    path
        Any file.
    """
    if not path.is_file() or path.suffix in _PICKLE_SUFFIXES:
        return False
    return tarfile.is_tarfile(path) or zipfile.is_zipfile(path)


def unpack(archive: Path, folder: Path) -> int:
    """Unpack all files of an archive and give how many.

    Parameters
    ----------
    archive
        A tar, with or without compression, or a zip.
    folder
        An empty folder to unpack into.

    Raises
    ------
    ModelError
        If a member leads outside the folder, is a link or a device, there is no room, or the archive is
        damaged. Members are checked before any is written.
    """
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as opened:
                return _write(list(_tar_members(opened)), archive, folder)
        with zipfile.ZipFile(archive) as opened:
            return _write(list(_zip_members(opened)), archive, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.filename is not None and not isinstance(error, _CONFLICTS):
            raise
        raise ModelError(f"{archive} is damaged ({error})", hint="download it again") from error


def _tar_members(opened: tarfile.TarFile) -> Iterator[_Member]:
    for each in opened:
        kind = (
            "file" if each.isreg() else "folder" if each.isdir() else "link" if _is_link(each) else "device"
        )
        yield _Member(each.name, each.size, kind, lambda each=each: opened.extractfile(each))


def _is_link(each: tarfile.TarInfo) -> bool:
    return each.issym() or each.islnk()


def _zip_members(opened: zipfile.ZipFile) -> Iterator[_Member]:
    for each in opened.infolist():
        is_link = each.external_attr >> 28 == 0xA
        kind = "link" if is_link else "folder" if each.is_dir() else "file"
        yield _Member(each.filename, each.file_size, kind, lambda each=each: opened.open(each))


def _write(members: list[_Member], archive: Path, folder: Path) -> int:
    for member in members:
        _check(member, archive)
    needed, free = sum(member.size for member in members), shutil.disk_usage(folder).free
    if needed > free:
        raise ModelError(
            f"{archive} unpacks to {needed:,} bytes, and {folder} has room for {free:,}", hint="make room"
        )
    files = [member for member in members if member.kind == "file"]
    for member in files:
        place = folder / member.name
        place.parent.mkdir(parents=True, exist_ok=True)
        source = member.open()
        assert source is not None
        with closing(source), place.open("wb") as target:
            shutil.copyfileobj(source, target)
    return len(files)


def _check(member: _Member, archive: Path) -> None:
    parts = PurePosixPath(member.name).parts + PureWindowsPath(member.name).parts
    is_outside = (
        ".." in parts
        or PurePosixPath(member.name).is_absolute()
        or bool(PureWindowsPath(member.name).anchor)
        or "\x00" in member.name
    )
    if is_outside or member.kind not in ("file", "folder"):
        what = "leads outside of it" if is_outside else f"is a {member.kind}"
        raise ModelError(
            f"{archive}: its member '{member.name}' {what}, so nothing was unpacked",
            hint="neither weights nor structures need such a thing; do not trust this file",
        )
