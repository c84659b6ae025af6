"""A bundle that cannot be had: what is said is true of the store, the options or the path, and not of the bundle."""

import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from btc_ray.cli import main
from btc_ray.model.bundle import Bundle, BundleError, read_bundle
from btc_ray.model.bundle.publish import publish
from btc_ray.storage import Place, StorageError, retries
from tests.conftest import Bucket

SECRET = "Zm9vYmFyL3NlY3JldA"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Second tries as long as anywhere, at a scale of tests."""
    monkeypatch.setattr(retries, "FIRST_CONTACT_S", 0.3)
    monkeypatch.setattr(retries, "PATIENCE_S", 8.0)
    monkeypatch.setattr(retries._Store, "answered", True)


@pytest.fixture
def described(model: Path) -> Bundle:
    return read_bundle(Place(str(model)))


@pytest.fixture
def down_for_a_while(model: Path) -> Iterator[str]:
    """A web server with a bundle that refuses everything for the first two seconds."""
    began = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            up = time.monotonic() - began > 2
            content = (model / self.path.rpartition("/")[2]).read_bytes() if up else b""
            self.send_response(200 if up else 503)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/model"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_store_that_is_down_is_waited_for_as_it_is_for_images(down_for_a_while: str, patient: None) -> None:
    assert read_bundle(Place(down_for_a_while)).architecture == "resnet18"


def test_a_model_under_a_path_with_colons_is_read(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "night::2" / "model")
    assert read_bundle(Place(str(tmp_path / "night::2" / "model"))) == read_bundle(Place(str(model)))
    assert main(["info", str(tmp_path / "night::2" / "model")]) == 0


def test_a_malformed_option_is_said_to_be_one(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    place = Place(f"{bucket.uri}/model", {**bucket.options, "client_kwargs": "{not json"})
    with pytest.raises(StorageError, match=r"storage option 'client_kwargs' starts with \{ but is not JSON"):
        read_bundle(place)


def test_a_refused_connection_is_not_called_a_missing_bundle(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(retries, "FIRST_CONTACT_S", 0.3)
    monkeypatch.setattr(retries._Store, "answered", False)
    with pytest.raises(BundleError) as refused:
        read_bundle(Place("http://127.0.0.1:9/model"))
    assert "did not answer" in str(refused.value)
    assert "not a model bundle" not in str(refused.value)
    assert refused.value.exit_code == 1


@pytest.mark.parametrize(
    "command", [["info", "{uri}"], ["score", "--model", "{uri}", "--input", ".", "--output", "run"], ["review", "--run", "{uri}"]]
)
def test_neither_the_password_nor_the_token_of_a_uri_is_printed(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(retries, "FIRST_CONTACT_S", 0.3)
    monkeypatch.setattr(retries._Store, "answered", False)
    monkeypatch.chdir(tmp_path)
    uri = f"http://user:{SECRET}@127.0.0.1:9/x?access_token={SECRET}"
    for debug in ([], ["--debug"]):
        assert main([word.format(uri=uri) for word in command] + debug) != 0
        said = capsys.readouterr()
        assert "127.0.0.1" in said.err
        assert SECRET not in said.out + said.err


def test_a_new_bundle_is_never_seen_half_written(described: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a kill comes, a folder with bundle.json holds every file that it names."""
    real, left = Place.write, [0]
    files = {"model.safetensors": b"weights", "split.parquet": b"split", "model_card.md": b"card"}

    def write_then_stop(self: Place, data: bytes) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        real(self, data)

    place = Place(str(tmp_path / "model"))
    for stop in range(1, len(files) + 2):
        left[0] = stop
        monkeypatch.setattr(Place, "write", write_then_stop)
        with pytest.raises(KeyboardInterrupt):
            publish(place, described, files)
        monkeypatch.setattr(Place, "write", real)
        with pytest.raises(BundleError, match=r"no bundle\.json"):
            read_bundle(place)
    publish(place, described, files)
    assert read_bundle(place) == described
    assert {path.name for path in (tmp_path / "model").iterdir()} == {*files, "bundle.json"}


def test_a_bundle_goes_to_a_store_and_comes_back(model: Path, bucket: Bucket) -> None:
    bundle = read_bundle(Place(str(model)))
    for file in model.iterdir():
        bucket.put(f"model/{file.name}", file.read_bytes())
    assert read_bundle(Place(f"{bucket.uri}/model", bucket.options)) == bundle
