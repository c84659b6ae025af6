"""The storage verbs, on a folder and in memory (S3: test_object_store)."""

import os
import threading
import uuid
from pathlib import Path

import pytest

from btc_ray import storage
from btc_ray.storage import StorageError, retries
from btc_ray.storage.retries import retrying


@pytest.fixture(params=["path", "file", "memory"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"path": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory://{uuid.uuid4().hex}"}[request.param]


def test_what_is_written_is_read_listed_and_removed(base: str) -> None:
    uri = storage.join(base, "run #1", "b.parquet")
    assert not storage.exists(uri)
    assert storage.list_files(storage.join(base, "run #1")) == []
    storage.write_bytes(uri, b"one")
    storage.write_bytes(uri, b"two")
    storage.write_bytes(storage.join(base, "run #1", "a.parquet"), b"x")
    storage.write_bytes(storage.join(base, "run #1", "c.json"), b"x")
    storage.write_bytes(storage.join(base, "run #1", "deep", "d.parquet"), b"x")
    assert storage.read_bytes(uri) == b"two"
    listed = storage.list_files(storage.join(base, "run #1"), ".parquet")
    assert [name.rsplit("/", 1)[-1] for name in listed] == ["a.parquet", "b.parquet"]
    assert [storage.read_bytes(name) for name in listed] == [b"x", b"two"]
    storage.remove_tree(storage.join(base, "run #1"))
    storage.remove_tree(storage.join(base, "run #1"))
    assert not storage.exists(uri)
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(uri)


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    target, seen, done = tmp_path / "run.json", set(), threading.Event()
    storage.write_bytes(str(target), b"0" * 100_000)

    def read() -> None:
        while not done.is_set():
            data = target.read_bytes()
            seen.add((len(data), len(set(data))))

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(50):
        storage.write_bytes(str(target), str(number % 10).encode() * 100_000)
    done.set()
    thread.join()
    assert seen == {(100_000, 1)}
    assert os.listdir(tmp_path) == ["run.json"]  # noqa: PTH208


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        storage.write_bytes(str(tmp_path / "folder"), b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_files_are_readable_by_the_group_as_the_umask_says(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    storage.write_bytes(str(tmp_path / "ours"), b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("uri", "message"),
    [("nonsense://x/y", "nonsense"), ("gs://bucket/a", r"btc-ray\[gcs\]"), ("az://container/a", r"btc-ray\[azure\]")],
)
def test_a_file_system_that_is_not_there_says_what_to_install(uri: str, message: str) -> None:
    if uri.startswith("gs"):
        _skip_where_installed("gcsfs")
    if uri.startswith("az"):
        _skip_where_installed("adlfs")
    with pytest.raises(StorageError, match=message):
        storage.filesystem(uri)


def _skip_where_installed(package: str) -> None:
    try:
        __import__(package)
    except ImportError:
        return
    pytest.skip(f"{package} is installed here")


def test_options_that_are_no_json_are_named() -> None:
    with pytest.raises(StorageError, match="client_kwargs"):
        storage.filesystem("memory://x", {"client_kwargs": "{oops"})


@pytest.mark.parametrize(
    ("uri", "parts", "joined"),
    [
        ("/a", ("b", "c.jpg"), "/a/b/c.jpg"),
        ("/", ("b",), "/b"),
        ("s3://bucket", ("a b", "#?.jpg"), "s3://bucket/a b/#?.jpg"),
        ("s3://bucket/a/", ("b/",), "s3://bucket/a/b"),
        ("memory://", ("a",), "memory://a"),
    ],
)
def test_joining_escapes_nothing(uri: str, parts: tuple[str, ...], joined: str) -> None:
    assert storage.join(uri, *parts) == joined


@pytest.mark.parametrize(
    ("uri", "local"), [("a/b", True), ("file:///a", True), ("s3://b/a", False), ("C:/x", True), ("a/s3://b", True)]
)
def test_what_is_local(uri: str, local: bool) -> None:
    assert storage.is_local(uri) is local


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), OSError(16, "SlowDown")])
@pytest.mark.parametrize("answered", [True, False])
def test_what_passes_by_itself_is_tried_for_as_long_as_an_outage_or_a_first_contact_lasts(
    error: Exception, answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries._Store, "answered", answered)
    pauses: list[float] = []

    def fail() -> None:
        raise error

    with pytest.raises(retries.GaveUpError) as caught:
        retrying(fail, sleep=pauses.append)
    assert caught.value.__cause__ is error
    throttled = isinstance(error, OSError) and error.errno == 16  # a store that throttles has answered
    assert sum(pauses) == pytest.approx(90 if answered or throttled else 8, abs=0.5)
    assert max(pauses) <= 15
    assert all(0.25 * 2**n <= pause <= 0.75 * 2**n for n, pause in enumerate(pauses[:3]))


@pytest.mark.parametrize("error", [FileNotFoundError(), PermissionError(), ValueError(), retries.GaveUpError("90 s")])
def test_what_does_not_pass_by_itself_is_raised_at_once(error: Exception) -> None:
    with pytest.raises(type(error)):
        retrying(lambda: (_ for _ in ()).throw(error), sleep=lambda pause: pytest.fail("it was tried again"))


@pytest.mark.parametrize(
    "error", [ConnectionResetError(104, "reset"), TimeoutError("x"), OSError(16, "Please reduce your request rate.")]
)
def test_ray_data_tries_again_what_we_try_again_and_not_what_we_gave_up(error: Exception) -> None:
    from ray._common.retry import format_exception, matches_error

    def tried_again(error: Exception) -> bool:
        return any(matches_error(pattern, format_exception(error)) for pattern in retries.PASSING_PATTERNS)

    assert tried_again(error)
    assert not tried_again(FileNotFoundError("s3://bucket/503/429.jpg"))
    with pytest.raises(retries.GaveUpError) as caught:
        retrying(lambda: (_ for _ in ()).throw(error), sleep=lambda pause: None)
    assert not tried_again(caught.value)


@pytest.mark.parametrize(
    ("there", "uri", "path"),
    [
        ("my images/scan 1.jpg", "file://{}/my%20images/scan%201.jpg", "my images/scan 1.jpg"),
        ("my images/scan 1.jpg", "file:{}/my%20images/scan%201.jpg", "my images/scan 1.jpg"),
        ("my images/scan 1.jpg", "FILE://localhost{}/my%20images/scan%201.jpg", "my images/scan 1.jpg"),
        ("Größe/ü.jpg", "file://{}/Gr%C3%B6%C3%9Fe/%C3%BC.jpg", "Größe/ü.jpg"),
        ("50%20/a.jpg", "file://{}/50%20/a.jpg", "50%20/a.jpg"),
        ("50%/a.jpg", "file://{}/50%/a.jpg", "50%/a.jpg"),
        ("my images/x", "file://{}/my%20images/new%20run", "my images/new run"),
        ("images/x", "file://{}/images/new%20run", "images/new%20run"),
        ("my 1.zip", "file://{}/my%201.zip::a.jpg", "my 1.zip::a.jpg"),
        ("my images/a.jpg", "file://{}/my%20images/*/b?.jpg", "my images/*/b?.jpg"),
        ("my images/a.jpg", "{}/my%20images/a.jpg", "my%20images/a.jpg"),
    ],
)
def test_a_file_uri_is_decoded_where_more_of_the_decoded_path_exists(tmp_path: Path, there: str, uri: str, path: str) -> None:
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).touch()
    assert storage.local_path(uri.format(tmp_path)) == f"{tmp_path}/{path}"
