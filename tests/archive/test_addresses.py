"""The key that seals addresses is made of what the inputs hold, and of nothing else."""

import errno
from pathlib import Path

import pytest

from btc_ray.archive.addresses import with_key
from btc_ray.archive.entries import ArchiveError
from btc_ray.storage.sealed import KEY


def key(*inputs: object) -> str | None:
    return with_key([str(one) for one in inputs], {}).get(KEY)


def test_a_list_gives_the_same_key_from_wherever_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list.txt").write_text("https://host/a.jpg?sig=1\n")
    whole = key(tmp_path / "list.txt")
    monkeypatch.chdir(tmp_path)
    assert key("list.txt") == key("./list.txt", tmp_path) == whole
    (tmp_path / "list.txt").write_text("https://host/a.jpg?sig=2\n")
    assert key("list.txt") != whole


def test_the_parts_of_a_table_count_and_so_does_an_address_with_a_signature(tmp_path: Path) -> None:
    parts = tmp_path / "table.csv"
    parts.mkdir()
    for number in range(2):
        (parts / f"part-{number}.csv").write_text(f"uri\nhttps://host/{number}.jpg?sig={number}\n")
    before = key(parts)
    (parts / "part-1.csv").write_text("uri\nhttps://host/1.jpg?sig=other\n")
    assert before not in (None, key(parts))
    assert key("https://host/a.zip?sig=1") not in (None, key("https://host/a.zip?sig=2"))


def test_folders_and_what_is_not_there_need_no_key(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "2024.csv").mkdir()
    (tmp_path / "2024.csv" / "a.jpg").write_bytes(b"x")  # a folder of images, whatever it is called
    assert key(tmp_path, tmp_path / "gone.txt", "https://host/a.zip", tmp_path / "a.jpg", tmp_path / "2024.csv") is None


def test_a_list_that_cannot_be_read_gives_no_weaker_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "list.txt").write_text("https://host/a.jpg?sig=1\n")
    monkeypatch.setattr("btc_ray.archive.addresses.hashlib.file_digest", broken)
    with pytest.raises(ArchiveError, match=r"the list .*list\.txt cannot be read"):
        key(tmp_path / "list.txt")
