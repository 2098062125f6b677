"""protlm fetch against a server on this machine: whole, cut off, changed, in an archive, hostile."""

import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from protlm.cli.main import app
from protlm.errors import DataError
from protlm.evaluation.cards import TaskCard, load_card
from protlm.evaluation.task_files import find_files
from protlm.recipes.fetch import RECORD, fetch, wanted_files

CONTENT = b"sequence,label\n" + b"MKTAYIAKQR,1\nGGWLPERQAV,0\n" * 2000


class Server(ThreadingHTTPServer):
    """Answers ranges; cuts the first answer of a path off after `cut` bytes."""

    def __init__(self):
        self.files, self.cut, self.asked = {}, {}, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.lstrip("/")
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.server.asked.append((name, start))
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = self.server.cut.pop(name, None)
        self.wfile.write(content[start:] if stop is None else content[start:stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    own = Server()
    yield own
    own.shutdown()
    own.server_close()


def card(server, name="table.csv", **changes):
    source = {
        "name": "own",
        "file": "sets/table.tsv.gz",
        "chains": [{"column": "sequence"}],
        "licence": "none",
    }
    source |= {"citation": "none", "origin": "here @ now", "url": server.url(name)}
    values = {"name": "own", "version": 1, "title": "Own", "about": "A test.", "level": "sequence"}
    values |= {"data": [source | changes], "baselines": ["majority"]}
    values |= {"target": {"kind": "column", "column": "label", "positive": ["1"], "negative": ["0"]}}
    return TaskCard.from_dict(values | {"splits": [{"name": "random", "random": True}]})


def quiet(_):
    pass


def test_a_file_is_fetched_recorded_found_and_not_fetched_again(server, tmp_path):
    server.files["table.csv"] = CONTENT
    said = []
    task = card(server)
    found = fetch(task, tmp_path, say=said.append)
    assert found == [tmp_path / "sets" / "table.csv"]  # the suffix of what it is
    assert found[0].read_bytes() == CONTENT
    assert any("recorded, not checked" in line for line in said)
    assert hashlib.sha256(CONTENT).hexdigest() in (tmp_path / RECORD).read_text()
    assert find_files(task, [str(tmp_path)]) == {"own": found[0]}
    fetch(task, tmp_path, say=quiet)
    assert len(server.asked) == 1


def test_a_download_that_broke_off_goes_on(server, tmp_path):
    server.files["table.csv"], server.cut["table.csv"] = CONTENT, 1000
    with pytest.raises(DataError, match=r"broke off|cannot be reached"):
        fetch(card(server), tmp_path, say=quiet)
    assert fetch(card(server), tmp_path, say=quiet)[0].read_bytes() == CONTENT
    assert server.asked == [("table.csv", 0), ("table.csv", 1000)]


def test_another_content_is_refused(server, tmp_path):
    server.files["table.csv"] = CONTENT
    with pytest.raises(DataError, match="and 0000"):
        fetch(card(server, url_sha256="0" * 64), tmp_path, say=quiet)
    assert not list(tmp_path.rglob("table*"))
    fetch(card(server), tmp_path, say=quiet)
    server.files["table.csv"] = CONTENT + b"MK,1\n"
    with pytest.raises(DataError, match="was expected"):  # unlike what was recorded
        fetch(card(server), tmp_path, force=True, say=quiet)
    assert (tmp_path / "sets" / "table.csv").read_bytes() == CONTENT


def archive(members):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as opened:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    return content.getvalue()


def test_a_member_of_an_archive_is_taken_and_a_hostile_archive_is_refused(server, tmp_path):
    server.files["all.tgz"] = archive({"data/table.csv": CONTENT, "data/other.csv": b"x"})
    task = card(server, "all.tgz", member="data/table.csv")
    assert fetch(task, tmp_path, say=quiet)[0].read_bytes() == CONTENT
    assert not list(tmp_path.rglob("other.csv"))
    with pytest.raises(DataError, match=r"no member 'data/none\.csv'"):
        fetch(card(server, "all.tgz", member="data/none.csv"), tmp_path / "b", say=quiet)
    server.files["bad.tgz"] = archive({"../outside.csv": b"x", "data/table.csv": CONTENT})
    with pytest.raises(DataError, match="leads outside"):
        fetch(card(server, "bad.tgz", member="data/table.csv"), tmp_path / "c", say=quiet)
    assert not list(tmp_path.rglob("outside.csv"))


def test_mistakes_are_named(server, tmp_path):
    with pytest.raises(DataError, match="answers 404"):
        fetch(card(server, "nowhere.csv"), tmp_path, say=quiet)
    with pytest.raises(DataError, match="no address of the web"):
        fetch(card(server, url="ftp://x/y.csv"), tmp_path, say=quiet)
    with pytest.raises(DataError, match="no file of task 'own' has an address"):
        fetch(card(server, url=None), tmp_path, say=quiet)
    with pytest.raises(DataError, match=r"(?s)table\.tsv\.gz.*protlm fetch own"):
        find_files(card(server), [str(tmp_path)])
    result = CliRunner().invoke(app, ["fetch", "solubilty"])
    assert "did you mean 'solubility'" in str(result.exception)


def test_shipped_addresses_are_secure():
    for name in ("affinity-emibetuzumab", "developability-hic"):
        assert all(each.url.startswith("https://") for each in wanted_files(load_card(name)))
