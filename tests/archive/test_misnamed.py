"""Archives whose name does not say what they are."""

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from btc_ray.archive.reader import ByteReader
from tests.archive.samples import jpeg, outcomes, rows, tar_bytes, write, zip_bytes
from tests.archive.test_zips import fields

MEMBERS = [("a.jpg", jpeg(1)), ("b.jpg", jpeg(2))]
TAR, ZIP = tar_bytes(MEMBERS), zip_bytes(MEMBERS)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.tar.gz", TAR),  # a browser unpacked it on the way
        ("x.tgz", ZIP),
        ("x.tar", gzip.compress(TAR)),
        ("x.tar.bz2", lzma.compress(TAR)),
        ("x.tar.xz", bz2.compress(TAR)),
        ("x.zip", TAR),
        ("x.zip", gzip.compress(TAR)),
        ("x.tar", ZIP),
    ],
)
def test_an_archive_is_opened_by_its_first_bytes_where_its_name_is_wrong(tmp_path: Path, name: str, data: bytes) -> None:
    write(tmp_path, {name: data})
    found = rows(tmp_path / name)
    assert [row.uri.partition("::")[2] for row in found] == ["a.jpg", "b.jpg"]
    assert list(ByteReader().read_many(map(fields, found))) == [data for _, data in MEMBERS]
    assert outcomes(tmp_path, f"{tmp_path}/{name}::b.jpg") == {f"{name}::b.jpg": "ok"}


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("x.7z", b"7z\xbc\xaf\x27\x1c", "this kind of archive is not opened (.7z); extract it or use zip"),
        ("x.tar.zst", b"\x28\xb5\x2f\xfd", "this kind of archive is not opened (.zst); extract it or use zip"),
        ("x.rar", b"Rar!\x1a\x07\0", "this kind of archive is not opened (.rar); extract it or use zip"),
        ("x.zip", b"7z\xbc\xaf\x27\x1c" + bytes(90), "it is a 7z archive, which is not opened; extract it or use zip"),
        ("x.zip", b"Rar!\x1a\x07\0" + bytes(90), "it is a RAR archive, which is not opened; extract it or use zip"),
        (
            "x.tar.gz",
            b"\x28\xb5\x2f\xfd" + bytes(90),
            "it is packed with Zstandard (.zst), which is not opened; extract it or use zip",
        ),
        ("x.tar", b"\n<!DOCTYPE html><title>Sign in</title>", "it is a web page, not an archive: download it again, signed in"),
        ("list.xlsx", ZIP, "it is a workbook, which is not read; save the list in it as .csv"),
        ("export", ZIP, "it is a zip archive whose name does not say so; name it .zip"),
        ("export.bin", TAR, "it is a tar archive whose name does not say so; name it .tar"),
    ],
)
def test_an_archive_that_is_not_opened_says_what_it_is(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    write(tmp_path, {name: data})
    (row,) = rows(tmp_path / name)
    assert row.problem_status == "unsupported"
    assert (row.problem or "").startswith(told)
