"""An S3 server of this machine's own, for the tests that must see a real object store's answers."""

import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from btc_ray.archive import storage


@dataclass(frozen=True, kw_only=True)
class Bucket:
    uri: str
    options: dict[str, str]

    def put(self, key: str, data: bytes) -> None:
        storage.write_bytes(f"{self.uri}/{key}", data, self.options)


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, str]]:
    pytest.importorskip("s3fs", reason="needs pip install 'btc-ray[s3]'")
    pytest.importorskip("flask", reason="needs pip install 'moto[server]'")
    pytest.importorskip("flask_cors", reason="needs pip install 'moto[server]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.server import ThreadedMotoServer
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield {"key": "testing", "secret": "testing-secret", "endpoint_url": f"http://127.0.0.1:{port}"}
    server.stop()


@pytest.fixture
def bucket(s3_options: dict[str, str]) -> Bucket:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    fs, path = storage.filesystem(f"s3://{name}", s3_options)
    fs.mkdir(path)
    return Bucket(uri=f"s3://{name}", options=s3_options)
