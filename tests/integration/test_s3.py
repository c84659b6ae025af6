"""Whole jobs with inputs, model and results on S3, before a store that throttles, breaks off and goes down."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from btc_ray import storage
from btc_ray.cli import main
from btc_ray.storage import Place, retries
from tests.archive.samples import tar_bytes
from tests.conftest import Bucket
from tests.integration.faulty_store import FaultyStore, faulty_store
from tests.scoring.runs import rows, score

# Two commands on one Ray, started as `--address local --debug` starts it; the first is to succeed and the second to fail.
TWO_COMMANDS = """
import sys
from btc_ray.cli import main
from btc_ray.workers.session import joined
place = sys.argv.index("then")
with joined("local", debug=True):
    codes = [main(sys.argv[1:place]), main(sys.argv[place + 1 :])]
sys.exit(f"ended with {codes}" if codes[0] != 0 or codes[1] not in (1, 2) else 0)
"""

SECRET, TOKEN = "S3cr3t/Planted+InTheEnvironment0123456789", "T0ken-Planted-InTheEnvironment-9876543210"


@pytest.fixture(scope="module")
def store(s3_options: dict[str, str]) -> Iterator[FaultyStore]:
    with faulty_store(s3_options["endpoint_url"].removeprefix("http://")) as store:
        yield store


@pytest.fixture
def remote(store: FaultyStore, bucket: Bucket) -> Iterator[Bucket]:
    """A bucket seen through the proxy, without faults at first."""
    store.forget()
    yield Bucket(uri=bucket.uri, options={**bucket.options, "endpoint_url": store.url})
    store.forget()


@pytest.fixture(scope="module")
def night(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night's inputs: loose images, a zip, a tar, and what is no image."""
    folder = tmp_path_factory.mktemp("night") / "in"
    folder.mkdir()
    images = sorted((phantoms / "Testing").rglob("*.*"))
    for image in images:
        (folder / f"{image.parent.name}-{image.name}").write_bytes(image.read_bytes())
    with zipfile.ZipFile(folder / "m.zip", "w") as archive:
        for copy in range(10):
            for image in images:
                archive.write(image, f"{copy}/{image.parent.name}/{image.name}")
    (folder / "n.tar").write_bytes(tar_bytes([(f"{image.parent.name}-{image.name}", image.read_bytes()) for image in images]))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not much of a JPEG")
    return folder


@pytest.fixture(scope="module")
def expected(model: Path, night: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The table of a run in a local folder."""
    run = tmp_path_factory.mktemp("here") / "run"
    assert score(model, [night], run) == 0
    return _comparable(rows(run), str(night))


def _flags(remote: Bucket) -> list[str]:
    return ["--storage-options", *(f"{name}={value}" for name, value in remote.options.items())]


def _put(remote: Bucket, key: str, folder: Path) -> str:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        remote.put(f"{key}/{path.relative_to(folder)}", path.read_bytes())
    return f"{remote.uri}/{key}"


def _table(remote: Bucket, run: str) -> pd.DataFrame:
    import pyarrow as pa

    parts = [Place(uri, remote.options).read_table() for uri in storage.list_files(f"{run}/scores", ".parquet", remote.options)]
    return pa.concat_tables(parts).to_pandas().sort_values("row_id", ignore_index=True)


def _comparable(table: pd.DataFrame, inputs: str) -> pd.DataFrame:
    return table.assign(uri=table["uri"].str.removeprefix(inputs))


def _same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    floats = [name for name in expected.columns if expected[name].dtype == "float32"]
    pd.testing.assert_frame_equal(found.drop(columns=floats), expected.drop(columns=floats))
    np.testing.assert_allclose(found[floats], expected[floats], rtol=1e-4, atol=1e-4)


def _score(remote: Bucket, model: str, inputs: str, run: str, *flags: str) -> int:
    return main(["score", "--model", model, "--input", inputs, "--output", run, *flags, *_flags(remote)])


@pytest.mark.parametrize(("throttle", "reset"), [(0, 0), (4, 9)], ids=["calm", "throttled-and-reset"])
def test_a_run_on_s3_in_one_process_gives_the_table_of_a_local_folder(
    remote: Bucket, store: FaultyStore, model: Path, night: Path, expected: pd.DataFrame, throttle: int, reset: int
) -> None:
    bundle, inputs, run = _put(remote, "model", model), _put(remote, "in", night), f"{remote.uri}/run"
    store.throttle_every, store.reset_every = throttle, reset
    assert _score(remote, bundle, inputs, run) == 0
    assert (store.throttled > 10, store.resets > 10) == (bool(throttle), bool(reset))
    store.forget()
    _same(_comparable(_table(remote, run), inputs), expected)
    assert json.loads(storage.read_bytes(f"{run}/run.json", remote.options))["complete"] is True
    left = storage.filesystem(run, remote.options)[0].find(f"{run}/_work")
    assert not left, "what is staged is gone once the run is complete"
    assert main(["info", run, *_flags(remote)]) == 0
    assert main(["info", bundle, *_flags(remote)]) == 0


@pytest.mark.ray
@pytest.mark.parametrize("fault", ["throttled", "down"])
def test_a_run_on_s3_on_ray_gives_the_table_of_a_local_folder(
    remote: Bucket, store: FaultyStore, model: Path, night: Path, expected: pd.DataFrame, ray_here: None, fault: str
) -> None:
    bundle, inputs, run = _put(remote, "model", model), _put(remote, "in", night), f"{remote.uri}/run"
    outages: list[float] = []
    watcher = threading.Thread(target=_down_in_the_middle, args=(store, 5.0, outages))
    if fault == "throttled":
        store.throttle_every = 5
    else:
        watcher.start()
    assert _score(remote, bundle, inputs, run, "--local-rows", "0", "--batch-size", "8") == 0
    if fault == "throttled":
        assert store.throttled > 10
    else:
        watcher.join()
        assert outages == [5.0]
    store.forget()
    _same(_comparable(_table(remote, run), inputs), expected)


def _down_in_the_middle(store: FaultyStore, seconds: float, outages: list[float]) -> None:
    """Take the store down once a worker has written its first results."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if any(request.method == "PUT" and "/staged-ray/" in request.path for request in list(store.requests)):
            store.down_for(seconds)
            outages.append(seconds)
            return
        time.sleep(0.02)


def test_members_of_archives_on_s3_are_read_by_range(remote: Bucket, store: FaultyStore, model: Path, night: Path) -> None:
    for name in ("m.zip", "n.tar"):
        remote.put(f"in/{name}", (night / name).read_bytes())
    store.forget()
    assert _score(remote, str(model), f"{remote.uri}/in", f"{remote.uri}/run") == 0
    sizes = {name: (night / name).stat().st_size for name in ("m.zip", "n.tar")}
    for name, times in (("m.zip", 1.6), ("n.tar", 2.2)):  # the index and the members; a tar has its index between its members
        asked = sum(request.size for request in store.requests if request.method == "GET" and request.path.endswith(name))
        assert sizes[name] * 0.5 < asked < sizes[name] * times


def test_a_file_that_vanished_after_the_listing_is_a_failed_row(
    remote: Bucket, model: Path, night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from btc_ray.scoring import run as module

    inputs = _put(remote, "in", night)
    listed = module.list_images

    def list_and_lose(*args: object, **named: object) -> object:
        summary = listed(*args, **named)  # type: ignore[arg-type]
        storage.remove_tree(f"{inputs}/n.tar", remote.options)
        storage.remove_tree(f"{inputs}/broken.jpg", remote.options)
        return summary

    monkeypatch.setattr(module, "list_images", list_and_lose)
    assert _score(remote, str(model), inputs, f"{remote.uri}/run", "--max-bad-fraction", "1") == 0
    table = _table(remote, f"{remote.uri}/run")
    lost = table[table["uri"].str.contains("n.tar::|broken.jpg", regex=True)]
    assert len(lost) == 21
    assert set(lost["status"]) == {"failed"}
    assert lost["error"].str.contains("no such file or folder: it was moved, deleted or misspelt").all()
    assert set(table.drop(lost.index)["status"]) == {"ok"}


@pytest.mark.ray
def test_crops_and_a_head_trained_on_s3_are_there(
    remote: Bucket, store: FaultyStore, phantoms: Path, ray_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = _put(remote, "data", phantoms), f"{remote.uri}/bundle"
    store.throttle_every = 11
    words = ["--train", "head", "--weights", "none", "--size", "64", "--epochs", "2", "--cache", f"{remote.uri}/cache"]
    assert main(["retrain", "--data", data, "--output", output, *words, *_flags(remote)]) == 0
    assert main(["crop", "--input", f"{data}/Testing", "--output", f"{remote.uri}/crops", *_flags(remote)]) == 0
    assert store.throttled > 5
    store.forget()
    capsys.readouterr()
    assert main(["info", output, *_flags(remote)]) == 0
    assert "glioma, meningioma, notumor, pituitary" in capsys.readouterr().out
    assert storage.list_files(f"{remote.uri}/crops/crops", ".parquet", remote.options)
    assert storage.exists(f"{remote.uri}/crops/doubtful.png", remote.options)


def test_a_misspelt_endpoint_is_told_within_seconds(
    remote: Bucket, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(retries._Store, "answered", False)
    monkeypatch.setattr(retries, "FIRST_CONTACT_S", 2.0)
    monkeypatch.setattr(retries, "PATIENCE_S", 300.0)
    wrong = Bucket(uri=remote.uri, options={**remote.options, "endpoint_url": "http://127.0.0.1:9"})
    began = time.monotonic()
    assert _score(wrong, str(model), f"{remote.uri}/in", str(tmp_path / "run")) == 2
    assert time.monotonic() - began < 150  # on a machine that does much else; half the patience of a run under way
    said = capsys.readouterr().err
    assert "check the network and the endpoint" in said
    assert remote.options["secret"] not in said


@pytest.mark.ray
def test_planted_credentials_appear_in_no_file_and_no_message(remote: Bucket, model: Path, night: Path) -> None:
    bundle, damaged, inputs = _put(remote, "model", model), _put(remote, "damaged", model), _put(remote, "in", night)
    # The workers cannot load it: Ray tells of the arguments of the call that failed.
    remote.put("damaged/model.safetensors", b"damaged")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
        "AWS_ACCESS_KEY_ID": "AKIAPLANTED",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_ENDPOINT_URL": remote.options["endpoint_url"],
        "OMP_NUM_THREADS": "1",
    }
    option = "Opt10n-Planted/OnTheCommandLine+24680"
    given = [f"endpoint_url={remote.options['endpoint_url']}", "key=AKIAPLANTED", f"secret={option}", f"token={TOKEN}"]
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="btc") as home:  # short: Ray puts sockets there
        environment["RAY_TMPDIR"] = home
        words = ["score", "--input", inputs, "--debug", "--local-rows", "0"]
        good = [*words, "--model", bundle, "--output", f"{remote.uri}/good"]
        bad = [*words, "--model", damaged, "--output", f"{remote.uri}/bad", "--storage-options", *given]
        command = [sys.executable, "-c", TWO_COMMANDS, *good, "then", *bad]
        done = subprocess.run(command, capture_output=True, env=environment, timeout=480, check=False)
        said = done.stdout + done.stderr
        logs = b"".join(path.read_bytes() for path in Path(home).rglob("*") if path.is_file())
    assert done.returncode == 0, said.decode()[-3000:]
    assert b"model.safetensors is damaged" in said
    assert len(logs) > 10_000
    filesystem, _ = storage.filesystem(remote.uri, remote.options)
    files = b"".join(filesystem.cat_file(name) for run in ("good", "bad") for name in filesystem.find(f"{remote.uri}/{run}"))
    assert b'"kind": "score"' in files
    for planted in (SECRET, TOKEN, option):
        for place, content in (("messages", said), ("Ray's logs", logs), ("the run folder", files)):
            assert planted.encode() not in content, f"{planted} stands in {place}"
