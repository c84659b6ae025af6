"""Plain web servers: no ranges, no sizes to rely on, credentials in the query."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from btc_ray.archive.entries import ArchiveError, ReadError
from btc_ray.archive.reader import ByteReader
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
