"""What a row's bytes cost and what goes wrong, apart from the archives' own formats."""

import os
import pickle
import threading
from pathlib import Path

import pytest

from btc_ray.archive.entries import ReadError
from btc_ray.archive.reader import ByteReader
from tests.archive.samples import rows, tar_bytes, write, zip_bytes
from tests.archive.test_zips import fields


def test_a_row_may_be_a_mapping_or_keywords(tmp_path: Path) -> None:
    write(tmp_path, {"a.jpg": b"content"})
    assert (
        ByteReader().read({"uri": f"{tmp_path}/a.jpg", "row_id": 7}) == ByteReader().read(uri=f"{tmp_path}/a.jpg") == b"content"
    )


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("gone.jpg", "failed", "^gone.jpg: no such file"),
        ("folder", "failed", "^folder: it is a folder"),
        ("pipe.jpg", "failed", "^pipe.jpg: .*not a regular file"),
        ("big.jpg", "unsupported", "^big.jpg: larger than 100 bytes"),
        ("gone.zip::a.jpg", "failed", "^gone.zip::a.jpg: "),
    ],
)
def test_what_cannot_be_read_says_why_without_the_folders_of_this_machine(
    tmp_path: Path, name: str, status: str, message: str
) -> None:
    write(tmp_path, {"folder/x": b"", "big.jpg": b"x" * 101})
    os.mkfifo(tmp_path / "pipe.jpg")
    uri = f"{tmp_path}/{name}"
    place = (
        {"container": uri.split("::")[0], "offset": 0, "size": 1, "packed_size": 1, "packing": "stored"} if "::" in uri else {}
    )
    with pytest.raises(ReadError, match=message) as caught:
        ByteReader(size_limit=100).read(uri=uri, **place)
    assert caught.value.status == status
    assert str(tmp_path) not in str(caught.value)


def test_a_row_with_a_known_problem_raises_it() -> None:
    with pytest.raises(ReadError, match=r"^x\.jpg: too odd$") as caught:
        ByteReader().read(uri="/a/x.jpg", problem_status="unsupported", problem="too odd")
    assert caught.value.status == "unsupported"


def test_a_reader_and_its_errors_can_be_pickled(tmp_path: Path) -> None:
    write(tmp_path, {"x.zip": zip_bytes([("a.jpg", b"content")])})
    row = fields(rows(tmp_path / "x.zip")[0])
    reader = ByteReader({"key": "k"}, size_limit=1000)
    assert reader.read(row) == b"content"
    assert pickle.loads(pickle.dumps(reader)).read(row) == b"content"
    error = pickle.loads(pickle.dumps(ReadError("why", status="failed")))
    assert (str(error), error.status) == ("why", "failed")


def test_many_rows_come_back_in_order_with_their_errors(tmp_path: Path) -> None:
    write(tmp_path, {f"{number}.jpg": b"x" * number for number in range(100)})
    uris = [{"uri": f"{tmp_path}/{number}.jpg"} for number in range(101)]
    *good, gone = ByteReader().read_many(uris)
    assert good == [b"x" * number for number in range(100)]
    assert isinstance(gone, ReadError)


def test_many_threads_share_one_reader_and_few_open_archives(tmp_path: Path) -> None:
    names = [f"{number}.{kind}" for number in range(6) for kind in ("zip", "tar", "tgz")]
    members = [(f"{number}.jpg", bytes([number]) * 2000) for number in range(20)]
    for name in names:
        data = zip_bytes(members) if name.endswith("zip") else tar_bytes(members, "gz" if name.endswith("tgz") else "")
        write(tmp_path, {name: data})
    found = [fields(row) for row in rows(tmp_path)]
    expected = [bytes([number % 20]) * 2000 for number in range(len(found))]
    reader = ByteReader(open_archives=2)
    wrong: list[int] = []
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0  # noqa: PTH208

    def read(step: int) -> None:
        order = range(len(found)) if step % 2 else reversed(range(len(found)))
        wrong.extend(number for number in order if reader.read(found[number]) != expected[number])

    threads = [threading.Thread(target=read, args=(step,)) for step in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 2  # noqa: PTH208


def test_threads_that_share_a_compressed_tar_do_not_send_each_other_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from btc_ray.archive import tars

    members = {f"{number:03d}.jpg": os.urandom(20_000) for number in range(200)}
    write(tmp_path, {"a.tar.gz": tar_bytes(list(members.items()), "gz")})
    entries = rows(tmp_path / "a.tar.gz")
    opened: list[object] = []
    real = tars.TarBytes
    monkeypatch.setattr(tars, "TarBytes", lambda *arguments: opened.append(arguments) or real(*arguments))
    reader = ByteReader()
    interleaved = [entries[number] for pair in zip(range(100), range(100, 200), strict=True) for number in pair]
    for entry in interleaved:
        assert reader.read(fields(entry)) == members[entry.uri.rpartition("::")[2]]
    assert len(opened) == 1


def test_a_compressed_tar_larger_than_what_is_kept_is_read_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from btc_ray.archive import reader as module

    monkeypatch.setattr(module, "_KEPT", 50_000)
    monkeypatch.setattr(module, "_BLOCK", 10_000)
    members = {f"{number:03d}.jpg": os.urandom(20_000) for number in range(50)}
    write(tmp_path, {"a.tar.gz": tar_bytes(list(members.items()), "gz")})
    entries = rows(tmp_path / "a.tar.gz")
    reader = ByteReader()
    for number in (0, 1, 20, 19, 49, 3, 48):  # forward, a step back, far on, and back past what is kept
        assert reader.read(fields(entries[number])) == members[f"{number:03d}.jpg"]
        stream = next(iter(reader._archives.values()))
        assert len(stream._kept) <= 100_000  # type: ignore[union-attr]
