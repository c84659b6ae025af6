"""Plain web servers: no ranges, no sizes to rely on, credentials in the query."""

import functools
import shutil
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from btc_ray.archive import reader
from btc_ray.archive.entries import ArchiveError, ReadError
from btc_ray.archive.reader import ByteReader
from btc_ray.dataset.table import read_labelled
from btc_ray.storage import Place, retries
from tests.archive.samples import jpeg, outcomes, rows, tar_bytes, write, zip_bytes
from tests.archive.test_zips import fields

pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
MEMBERS = [("a.jpg", jpeg(1) * 30), ("b.jpg", jpeg(2))]


class _Quiet(SimpleHTTPRequestHandler):
    """Ignores Range, as Python's own server does."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    write(
        tmp_path,
        {
            "in/1.jpg": jpeg(3),
            "in/note.txt": b"x",
            "in/deep/2.jpg": jpeg(4),
            "x.zip": zip_bytes(MEMBERS),
            "x.tar": tar_bytes(MEMBERS),
        },
    )
    write(tmp_path, {"list.txt": b"in/1.jpg\nx.zip::b.jpg\n"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_images_archives_lists_and_listings_are_read_from_a_web_server(site: str) -> None:
    for path, expected in [
        ("/in/1.jpg", [jpeg(3)]),
        ("/in/1.jpg?sig=abc", [jpeg(3)]),
        ("/x.zip", [data for _, data in MEMBERS]),
        ("/x.zip?sig=abc", [data for _, data in MEMBERS]),
        ("/x.tar", [data for _, data in MEMBERS]),
        ("/list.txt", [jpeg(3), jpeg(2)]),
        ("/in/", [jpeg(3), jpeg(4)]),
    ]:
        found = rows(site + path)
        assert list(ByteReader().read_many(map(fields, found))) in (expected, expected[::-1]), path


def test_the_listing_of_a_web_folder_counts_what_it_skips(site: str) -> None:
    assert outcomes(site, f"{site}/in/") == {
        "in/1.jpg": "ok",
        "in/deep/2.jpg": "ok",
        "in/note.txt": "skipped: not an image (.txt)",
    }


def test_what_is_gone_says_so_without_the_signature(site: str) -> None:
    with pytest.raises(ReadError, match="no such file") as caught:
        ByteReader().read(uri=f"{site}/in/gone.jpg?sig=verysecret")
    assert "verysecret" not in str(caught.value)
    with pytest.raises(ArchiveError, match="does not exist") as refused:
        rows(f"{site}/in/gone.jpg?sig=verysecret")
    assert "verysecret" not in str(refused.value)


class _Moody(BaseHTTPRequestHandler):
    """Answers /CODE… with that status, /busy with 503 twice before it answers, and lies about lengths."""

    asked: ClassVar[Counter[str]] = Counter()
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.strip("/").partition(".")[0]
        self.asked[path] += 1
        code = int(path) if path.isdigit() else 503 if path.startswith("busy") and self.asked[path] <= 2 else 200
        body = jpeg(1) if code == 200 else b"no"
        self.close_connection = True
        self.send_response(code)
        if path == "endless" and self.command == "GET":
            self.send_header("Connection", "close")
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(bytes(1 << 20))
                    _Moody.asked["endless MiB"] += 1
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(retries, "PATIENCE_S", 0.1)
    monkeypatch.setattr(retries, "FIRST_CONTACT_S", 0.1)
    _Moody.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Moody)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (401, "no permission"),
        (403, "no permission"),
        (404, "no such file"),
        (410, "no such file"),
        (407, "the proxy asks for credentials"),
        (429, "too busy after several tries .HTTP 429."),
        (500, "the server failed after several tries .HTTP 500."),
        (503, "too busy after several tries .HTTP 503."),
        (418, "the server refused the request .HTTP 418."),
    ],
)
@pytest.mark.slow
def test_what_a_server_says_is_what_the_row_and_the_input_say(moody: str, code: int, reason: str) -> None:
    with pytest.raises(ReadError, match=reason) as caught:
        ByteReader().read(uri=f"{moody}/{code}.jpg")
    assert caught.value.status == "failed"
    with pytest.raises(ArchiveError, match="does not exist" if code in (404, 410) else reason):
        rows(f"{moody}/{code}.jpg")


def test_a_busy_server_is_asked_again(moody: str) -> None:
    assert ByteReader().read(uri=f"{moody}/busy.jpg") == jpeg(1)
    assert [row.problem for row in rows(f"{moody}/busy2.jpg")] == [None]
    assert _Moody.asked["busy"] == 3


@pytest.mark.timeout(60)
def test_an_answer_without_end_is_heard_to_its_limit_only(moody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "ANSWER_LIMIT", 8 << 20)
    with pytest.raises(ReadError, match="sends more than") as caught:
        ByteReader(size_limit=8 << 20).read(uri=f"{moody}/endless.jpg", size=100)
    assert caught.value.status == "failed"
    assert _Moody.asked["endless"] == 1  # it is not asked again


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://no-such-host.invalid/a.jpg", "name cannot be resolved"),
        ("http://127.0.0.1:9/a.jpg", "did not answer after several tries .connection refused."),
        ("https://{}/a.jpg", "no secure connection"),
    ],
)
def test_what_keeps_an_answer_from_coming_is_told(moody: str, uri: str, reason: str) -> None:
    with pytest.raises(ReadError, match=reason):
        ByteReader().read(uri=uri.format(moody.removeprefix("http://")))


def test_a_certificate_that_is_not_trusted_is_told_and_not_tried_again(tmp_path: Path, moody: str) -> None:
    openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    subprocess.run([*openssl, "-keyout", tmp_path / "key", "-out", tmp_path / "cert"], check=True, capture_output=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Moody)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(ReadError, match="certificate is not trusted"):
        ByteReader().read(uri=f"https://127.0.0.1:{server.server_address[1]}/a.jpg")
    server.shutdown()
    server.server_close()


def test_a_labelled_table_is_read_from_a_web_server(site: str, tmp_path: Path) -> None:
    write(tmp_path, {"labels.csv": b"uri;label\nin/1.jpg;a\nx.zip::b.jpg;b\n"})
    table = read_labelled(Place(f"{site}/labels.csv?sig=abc"))
    assert list(ByteReader().read_many(table.to_pylist())) == [jpeg(3), jpeg(2)]
