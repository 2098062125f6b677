"""fetch: download the public files of a task card, resumed where cut off, checked, unpacked with care."""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pooch

from protlm.errors import DataError, ModelError
from protlm.evaluation.cards import TaskCard, load_card
from protlm.progress import Progress
from protlm.recipes.archives import is_archive, unpack

_CHUNK = 1 << 20
_TIMEOUT = 60
RECORD = "fetched.json"
"""In the folder: where each file is from, and its hash."""


@dataclass(frozen=True)
class Wanted:
    """One file to download."""

    file: str
    """Where it goes, below the folder."""
    url: str
    sha256: str | None
    """Of what is at the address; `None` where not known, which is then recorded."""
    member: str | None
    """Its path inside the archive at the address."""


def fetch(
    task: str | TaskCard, to: Path | str, *, force: bool = False, say: Callable[[str], None] = print
) -> list[Path]:
    """Download the files of a card that have a public address.

    A download that was cut off goes on where it ended. A file whose hash the card knows is compared with it;
    of others the hash is written to `RECORD`, and compared with that the next time.

    Parameters
    ----------
    task
        A card, its name, or the path of one.
    to
        The data folder.
    force
        Download again what is there.
    say
        Tells the user what happens.

    Returns
    -------
    list of pathlib.Path
        The files, those that were there already included.

    Raises
    ------
    DataError
        If no file of the card has an address, one cannot be downloaded, or its hash is another one.
    """
    card = load_card(task) if isinstance(task, str) else task
    wanted, folder = wanted_files(card), Path(to)
    for source in card.data:
        if source.url is None and not (folder / source.file).is_file():
            say(f"{source.file} has no address that is read as it is; it is from {source.origin}")
    if not wanted:
        raise DataError(
            f"no file of task '{card.name}' has an address to download from",
            hint=f"its data are from {card.data[0].origin}; convert them and pass --data",
        )
    found = []
    for each in wanted:
        place = folder / each.file
        if place.is_file() and not force:
            say(f"{each.file} is there already")
        else:
            _get(each, folder, say)
        found.append(place)
    return found


def wanted_files(card: TaskCard) -> list[Wanted]:
    """List what a card can download.

    Parameters
    ----------
    card
        The task. A file that another source has too is listed once.
    """
    files = []
    for source in card.data:
        if source.url:
            files.append(
                Wanted(
                    _name(source.file, source.url, source.member),
                    source.url,
                    source.url_sha256,
                    source.member,
                )
            )
        tables = [table for table in source.tables.values() if table.url]
        files += [Wanted(_name(each.file, str(each.url), None), str(each.url), None, None) for each in tables]
    return list(dict.fromkeys(files))


def _name(file: str, url: str, member: str | None) -> str:
    """Give the file's name below the folder; its suffixes are those of the public copy."""
    public = Path(member or url.split("?")[0].rstrip("/").rsplit("/", 1)[-1]).name
    suffixes = "".join(Path(public).suffixes[-2:] if public.endswith(".gz") else Path(public).suffixes[-1:])
    own = Path(file)
    stem = own.name.removesuffix(
        "".join(own.suffixes[-2:] if own.name.endswith(".gz") else own.suffixes[-1:])
    )
    return str(own.with_name(stem + suffixes)) if suffixes else file


def _get(each: Wanted, folder: Path, say: Callable[[str], None]) -> None:
    place = folder / each.file
    place.parent.mkdir(parents=True, exist_ok=True)
    known = each.sha256 or _record(folder).get(each.url)
    say(f"{each.file}: from {each.url}")
    part = place.with_name(f"{place.name}.download")
    _download(each.url, part)
    found = pooch.file_hash(str(part))
    if known is not None and found != known:
        part.unlink()
        raise DataError(
            f"what {each.url} gave has the sha256 {found}, and {known} was expected",
            hint="it was deleted; the public copy has changed, or something stands between",
        )
    say(f"{each.file}: sha256 {found}, {'as known' if known else 'recorded, not checked by anything'}")
    _remember(folder, each.url, found)
    if each.member is None:
        part.replace(place)
        return
    _take(part, each.member, place)
    part.unlink()


def _take(archive: Path, member: str, place: Path) -> None:
    """Unpack an archive beside the file and keep one member of it."""
    if not is_archive(archive):
        raise DataError(f"{archive.name} is no tar or zip archive", hint="has the public copy moved?")
    with TemporaryDirectory(dir=place.parent) as inside:
        try:
            unpack(archive, Path(inside))
        except ModelError as error:
            archive.unlink()
            raise DataError(str(error)) from None
        found = Path(inside) / member
        if not found.is_file():
            raise DataError(f"the archive has no member '{member}'", hint="has the public copy changed?")
        shutil.move(found, place)


def _download(url: str, part: Path) -> None:
    """Append to a file what is missing of it; start over where the server does not resume."""
    if not url.startswith(("https://", "http://")):
        raise DataError(f"{url} is no address of the web", hint="expected https://…")
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "protlm", **({"Range": f"bytes={start}-"} if start else {})}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            is_rest = start > 0 and answer.status == 206
            left = int(answer.headers.get("Content-Length") or 0)
            done = start if is_rest else 0
            with (
                part.open("ab" if is_rest else "wb") as file,
                Progress(part.name, max(1, done + left), unit="byte", start=done) as progress,
            ):
                got = 0
                while chunk := answer.read(_CHUNK):
                    file.write(chunk)
                    got += len(chunk)
                    progress.advance(units=len(chunk))
            if left and got < left:
                raise DataError(
                    f"{url} broke off after {done + got:,} of {done + left:,} bytes",
                    hint="give the same command again: it goes on from there",
                )
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing is left to send: it was whole
            return
        raise DataError(f"{url} answers {error.code} {error.reason}", hint=_HINT) from None
    except (urllib.error.URLError, OSError) as error:
        raise DataError(f"{url} cannot be reached: {getattr(error, 'reason', error)}", hint=_HINT) from None


_HINT = "check the network; or download it by other means and pass --data NAME=FILE"


def _record(folder: Path) -> dict[str, str]:
    path = folder / RECORD
    return json.loads(path.read_text()) if path.is_file() else {}


def _remember(folder: Path, url: str, sha256: str) -> None:
    path = folder / RECORD
    whole = path.with_name(f"{RECORD}.part")
    whole.write_text(json.dumps({**_record(folder), url: sha256}, indent=1, sort_keys=True))
    whole.replace(path)
