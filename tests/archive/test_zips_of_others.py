"""Zips as other programs write them, sound ones and hostile ones, put together by hand: stored members and a directory."""

import bz2
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import pytest

from btc_ray.archive.entries import ReadError
from btc_ray.archive.reader import CHANGED, ByteReader
from tests.archive.samples import jpeg, outcomes, rows, write, zip_bytes
from tests.archive.test_zips import fields

UTF8 = 0x800


class Made(NamedTuple):
    """A member: its name in the directory, its data, its name in the local header, flags, and extra fields of both."""

    name: bytes
    data: bytes
    local: bytes | None = None
    flags: int = 0
    extra: bytes = b""
    attributes: int = 0


def made(members: list[Made], before: bytes = b"") -> bytes:
    body, directory = before, b""
    for name, data, local, flags, extra, attributes in members:
        fixed = struct.pack("<4H3L", flags, 0, 0, 33, zlib.crc32(data), len(data), len(data))
        places = struct.pack("<5H2L", len(name), len(extra), 0, 0, 0, attributes, len(body))
        directory += struct.pack("<4sHH", b"PK\1\2", 20, 20) + fixed + places + name + extra
        local = name if local is None else local
        body += struct.pack("<4sH", b"PK\3\4", 20) + fixed + struct.pack("<2H", len(local), len(extra)) + local + extra + data
    return body + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(members), len(members), len(directory), len(body), 0)


def unicode_path(raw: bytes, name: str) -> bytes:
    body = b"\1" + struct.pack("<L", zlib.crc32(raw)) + name.encode()
    return struct.pack("<HH", 0x7075, len(body)) + body


@pytest.mark.parametrize(
    ("member", "uri"),
    [
        (Made(b"p1/a.jpg", jpeg(1), b"p1\\a.jpg"), "p1/a.jpg"),
        (Made(b"p1\\deep\\a.jpg", jpeg(1)), "p1/deep/a.jpg"),
        (Made("é/b.jpg".encode(), jpeg(1), "é/b.jpg".encode("cp850"), UTF8), "é/b.jpg"),
        (Made("é/b.jpg".encode(), jpeg(1), "é/b.jpg".encode("latin1"), UTF8), "é/b.jpg"),
        (Made(b"A.JPG", jpeg(1), b"a.jpg"), "A.JPG"),
        (Made(b"a.jpg", jpeg(1), b""), "a.jpg"),
        (Made("Größe/über.jpg".encode(), jpeg(1)), "Größe/über.jpg"),
        (Made("患者/脳.jpg".encode(), jpeg(1)), "患者/脳.jpg"),
        (Made("Größe.jpg".encode("cp437"), jpeg(1)), "Größe.jpg"),
        (Made(b"_.jpg", jpeg(1), None, 0, b""), "_.jpg"),
        (Made(b"\x8e.jpg", jpeg(1), None, 0, unicode_path(b"\x8e.jpg", "Ž.jpg")), "Ž.jpg"),
        (Made(b"\x8e.jpg", jpeg(1), None, 0, unicode_path(b"other.jpg", "Ž.jpg")), "Ä.jpg"),  # of a name since changed
    ],
)
def test_a_member_goes_by_the_name_in_the_directory(tmp_path: Path, member: Made, uri: str) -> None:
    write(tmp_path, {"x.zip": made([member, Made(b"z.jpg", jpeg(2))])})
    first, second = rows(tmp_path / "x.zip")
    assert first.uri == f"{tmp_path}/x.zip::{uri}"
    assert list(ByteReader().read_many([fields(first), fields(second)])) == [jpeg(1), jpeg(2)]
    (tmp_path / "list.txt").write_text(f"x.zip::{uri}\n")
    assert outcomes(tmp_path, tmp_path / "list.txt") == {f"x.zip::{uri}": "ok"}


def test_a_member_whose_names_differ_is_not_taken_from_an_archive_that_changed(tmp_path: Path) -> None:
    """Two members of equal sizes changed places: only their names tell."""
    one, other = Made(b"a.jpg", b"1" * 99, b"A.jpg"), Made(b"b.jpg", b"2" * 99, b"B.jpg")
    write(tmp_path, {"x.zip": made([one, other])})
    first, _ = rows(tmp_path / "x.zip")
    write(tmp_path, {"x.zip": made([other, one])})
    with pytest.raises(ReadError, match=CHANGED):
        ByteReader().read(fields(first))


def test_backslashes_part_folders_and_do_not_lead_out(tmp_path: Path) -> None:
    names = [b"scans\\", b"scans\\a.jpg", b"scans\\__MACOSX\\._a.jpg", b"..\\up.jpg", b"a\\..\\..\\up2.jpg"]
    write(tmp_path, {"x.zip": made([Made(name, b"" if name.endswith(b"\\") else b"x") for name in names])})
    leaves = "unsupported: member name leaves the archive"
    assert outcomes(tmp_path / "x.zip") == {
        "scans/a.jpg": "ok",
        "scans/__MACOSX/._a.jpg": "skipped: macOS leftover",
        "..\\up.jpg": leaves,
        "a\\..\\..\\up2.jpg": leaves,
    }


def test_a_folder_known_by_its_attributes_is_no_member(tmp_path: Path) -> None:
    write(tmp_path, {"x.zip": made([Made(b"p1", b"", None, 0, b"", 0x10), Made(b"p1/a.jpg", b"x")])})
    assert outcomes(tmp_path / "x.zip") == {"p1/a.jpg": "ok"}


@pytest.mark.parametrize("gaps", [(0, 1 << 32), ((1 << 32) + 4096, 0), ((1 << 32) - 5000, 0), (2 << 32, 1 << 32)])
def test_members_above_4_gib_are_found_though_their_offsets_lack_the_upper_half(tmp_path: Path, gaps: tuple[int, int]) -> None:
    """As the Archive Utility of macOS writes them; the files have holes."""
    data = [jpeg(number) for number in range(4)]
    directory = b""
    with (tmp_path / "x.zip").open("wb") as file:
        for number, gap in enumerate((0, *gaps, 0)):
            file.seek(gap, 1)
            at, name, image = file.tell(), f"{number}.jpg".encode(), data[number]
            fixed = struct.pack("<4H3L", 0, 0, 0, 33, zlib.crc32(image), len(image), len(image))
            file.write(struct.pack("<4sH", b"PK\3\4", 20) + fixed + struct.pack("<2H", len(name), 0) + name + image)
            directory += struct.pack("<4sHH", b"PK\1\2", 789, 20) + fixed
            directory += struct.pack("<5H2L", len(name), 0, 0, 0, 0, 0, at & 0xFFFFFFFF) + name
        start = file.tell()
        file.write(directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 4, 4, len(directory), start & 0xFFFFFFFF, 0))
    found = rows(tmp_path / "x.zip")
    assert list(ByteReader().read_many(map(fields, found))) == data


def test_zips_that_are_joined_say_that_only_the_last_is_listed(tmp_path: Path) -> None:
    write(tmp_path, {"x.zip": zip_bytes([("a.jpg", b"x")]) + zip_bytes([("b.jpg", b"x")])})
    image, whole = rows(tmp_path / "x.zip")
    assert image.uri.endswith("::b.jpg")
    assert "several zips are joined" in (whole.problem or "")


def bombs(members: int, size: int) -> bytes:
    """Members of zeros packed with bzip2."""
    packed = bz2.compress(bytes(size))
    body, directory = b"", b""
    for number in range(members):
        name = f"{number}.jpg".encode()
        fixed = struct.pack("<4H3L", 0, 12, 0, 33, 0, len(packed), size)
        directory += (
            struct.pack("<4sHH", b"PK\1\2", 20, 20) + fixed + struct.pack("<5H2L", len(name), 0, 0, 0, 0, 0, len(body)) + name
        )
        body += struct.pack("<4sH", b"PK\3\4", 20) + fixed + struct.pack("<2H", len(name), 0) + name + packed
    return body + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, members, members, len(directory), len(body), 0)


def test_a_member_that_unpacks_too_far_is_not_unpacked_and_its_neighbour_is(tmp_path: Path) -> None:
    write(tmp_path, {"x.zip": bombs(1, 100 << 20), "y.zip": zip_bytes([("black.jpg", bytes(20 << 20)), ("a.jpg", jpeg(1))])})
    assert outcomes(tmp_path) == {
        "x.zip::0.jpg": "unsupported: it unpacks to more than 250 times its size, as no image does",
        "y.zip::black.jpg": "ok",
        "y.zip::a.jpg": "ok",
    }


def test_many_members_that_each_stay_below_the_limit_share_a_budget(tmp_path: Path) -> None:
    write(tmp_path, {"x.zip": bombs(12, 60 << 20)})
    found = rows(tmp_path / "x.zip")
    assert [row.problem is None for row in found] == [True] * 4 + [False] * 8
    assert "hold more than 256 MiB" in (found[-1].problem or "")


def test_members_that_claim_the_same_bytes_are_refused_and_those_beside_them_are_not(tmp_path: Path) -> None:
    """The trick of zips that multiply: many names for one packed block."""
    one = made([Made(b"a.jpg", jpeg(1) * 99)])
    entry = one[one.index(b"PK\1\2") : one.index(b"PK\5\6")]
    body = one[: one.index(b"PK\1\2")]
    good = made([Made(b"a.jpg", jpeg(1) * 99), Made(b"good.jpg", jpeg(2))])
    body, entries = good[: good.index(b"PK\1\2")], good[good.index(b"PK\1\2") : good.index(b"PK\5\6")]
    directory = entries + b"".join(entry.replace(b"a.jpg", b"%c.jpg" % letter) for letter in b"bcdef")
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 7, 7, len(directory), len(body), 0)
    write(tmp_path, {"x.zip": body + directory + end})
    found = outcomes(tmp_path / "x.zip")
    assert found.pop("good.jpg") == "ok"
    assert set(found.values()) == {
        "unsupported: several members of the archive claim the same bytes; extract it and zip it again"
    }
