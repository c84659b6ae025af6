"""Zip archives: every member is a row or a reason, and a row is enough to read it."""

import contextlib
import io
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from btc_ray.archive.entries import ReadError
from btc_ray.archive.reader import CHANGED, ByteReader
from tests.archive.samples import jpeg, outcomes, rows, write, zip_bytes

LEAVES = "unsupported: member name leaves the archive"


def fields(row: object) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__slots__}  # type: ignore[attr-defined]


def contents(path: Path, **options: int) -> list[bytes]:
    reader = ByteReader()
    return [reader.read(fields(row)) for row in rows(path, **options)]


def patched(data: bytes, signature: bytes, offset: int, layout: str, value: int, which: int = 0) -> bytes:
    """`data` with one field of the `which`-th local (PK34) or central (PK12) header replaced."""
    place = -1
    for _ in range(which + 1):
        place = data.index(signature, place + 1)
    buffer = bytearray(data)
    struct.pack_into(layout, buffer, place + offset, value)
    return bytes(buffer)


LOCAL, CENTRAL = b"PK\3\4", b"PK\1\2"


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("a/b.jpg", "ok"),
        ("ä/脳.jpg", "ok"),
        ("a b#?*[::].jpg", "ok"),
        ("note.csv", "skipped: not an image (.csv)"),
        ("__MACOSX/._a.jpg", "skipped: macOS leftover"),
        ("a/.hidden/b.jpg", "skipped: hidden folder"),
        ("a/Thumbs.db", "skipped: Windows leftover"),
        ("a.dcm", "skipped: DICOM, which is read with --sniff auto, and by jobs on labelled images with --labels"),
        ("../up.jpg", LEAVES),
        ("a/../../up.jpg", LEAVES),
        ("/etc/a.jpg", LEAVES),
        ("C:/a.jpg", LEAVES),
        ("C:\\a.jpg", LEAVES),
        ("\\\\server\\a.jpg", LEAVES),
        ("..\\up.jpg", LEAVES),
        ("inner.zip", "unsupported: an archive inside an archive is not opened; extract it first"),
        ("inner.tar.gz", "unsupported: an archive inside an archive is not opened; extract it first"),
    ],
)
def test_each_member_is_a_row_or_a_reason(tmp_path: Path, name: str, outcome: str) -> None:
    write(tmp_path, {"x.zip": zip_bytes([("ok.jpg", b"x"), (name, b"y")])})
    found = outcomes(tmp_path, tmp_path / "x.zip")
    assert found == {"x.zip::ok.jpg": "ok", f"x.zip::{name}": outcome}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_of_every_compression_are_read_back(tmp_path: Path, compression: int) -> None:
    images = [jpeg(seed) * 50 for seed in range(3)] + [b""]
    write(tmp_path, {"x.zip": zip_bytes([(f"{n}.jpg", data) for n, data in enumerate(images)], compression)})
    assert contents(tmp_path / "x.zip") == images


class _Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise io.UnsupportedOperation

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation


def _streamed() -> bytes:
    sink = _Unseekable()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", b"content" * 9)
    return sink.getvalue()


def _zip64() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("a.jpg", "w", force_zip64=True) as member:
        member.write(b"content" * 9)
    return buffer.getvalue()


def _zip64_directory() -> bytes:
    """One member whose sizes, offset and count stand only in the zip64 records."""
    data = b"content" * 9
    local = struct.pack("<4s5H3L2H", LOCAL, 45, 0, 0, 0, 0, zlib.crc32(data), len(data), len(data), 5, 0) + b"a.jpg" + data
    extra = struct.pack("<HHQQQ", 1, 24, len(data), len(data), 0)
    most = 0xFFFFFFFF
    central = struct.pack(
        "<4s6H3L5H2L", CENTRAL, 45, 45, 0, 0, 0, 0, zlib.crc32(data), most, most, 5, len(extra), 0, 0, 0, 0, most
    )
    central += b"a.jpg" + extra
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(central), len(local))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(local) + len(central), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, most, most, 0)
    return local + central + end64 + locator + end


def _commented() -> bytes:
    buffer = io.BytesIO(zip_bytes([("a.jpg", b"content" * 9)]))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"PK\5\6 is no directory" + bytes(30)
    return buffer.getvalue()


def _long_extra() -> bytes:
    info = zipfile.ZipInfo("a.jpg")
    info.extra = struct.pack("<HH", 0x9999, 3000) + bytes(3000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, b"content" * 9)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_streamed(), id="streamed, with data descriptors"),
        pytest.param(_zip64(), id="zip64 local header"),
        pytest.param(_zip64_directory(), id="zip64 directory"),
        pytest.param(b"#!/bin/sh\nexec unzip $0\n" * 40 + zip_bytes([("a.jpg", b"content" * 9)]), id="self-extracting"),
        pytest.param(_commented(), id="comment with a signature in it"),
        pytest.param(_long_extra(), id="local header longer than one guess"),
        pytest.param(zip_bytes([("./a.jpg", b"content" * 9)]), id="dot before the name"),
    ],
)
def test_unusual_but_sound_zips_are_read(tmp_path: Path, data: bytes) -> None:
    write(tmp_path, {"x.zip": data})
    assert outcomes(tmp_path, tmp_path / "x.zip") == {"x.zip::a.jpg": "ok"}
    assert contents(tmp_path / "x.zip") == [b"content" * 9]


GOOD = zip_bytes([("a.jpg", b"content" * 9), ("b.jpg", b"other" * 9)])


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (patched(GOOD, CENTRAL, 8, "<H", 1), "unsupported: the member is encrypted; extract it with its password first"),
        (
            patched(GOOD, CENTRAL, 10, "<H", 9),
            "unsupported: its compression (deflate64) is not read; extract it and zip it again",
        ),
        (
            patched(GOOD, CENTRAL, 10, "<H", 77),
            "unsupported: its compression (method 77) is not read; extract it and zip it again",
        ),
        (patched(GOOD, CENTRAL, 24, "<L", 2 << 30), "unsupported: larger than 1 GiB, which no image is"),
        (patched(GOOD, CENTRAL, 20, "<L", 9999), "unreadable: its data would lie beyond the end of the archive"),
        (
            patched(patched(GOOD, CENTRAL, 8, "<H", 0x800), CENTRAL, 46, "<B", 0xFF),
            "unsupported: the member name is not valid UTF-8",
        ),
        (patched(GOOD, CENTRAL, 38, "<L", 0o120777 << 16), "unsupported: a link inside an archive is not followed"),
    ],
)
def test_a_member_that_cannot_be_read_is_known_before_and_its_neighbour_is_fine(
    tmp_path: Path, data: bytes, outcome: str
) -> None:
    if "link" in outcome:
        data = patched(data, CENTRAL, 4, "<H", 3 << 8 | 20)
    write(tmp_path, {"x.zip": data})
    first, second = outcomes(tmp_path, tmp_path / "x.zip").values()
    assert first.startswith(outcome)
    assert second == "ok"


def test_the_last_of_members_of_one_name_counts(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        write(tmp_path, {"x.zip": zip_bytes([("a.jpg", b"old"), ("b.jpg", b"b"), ("./a.jpg", b"new"), ("a.jpg", b"newest")])})
    found = rows(tmp_path / "x.zip")
    later = "a later member of the same name replaces it"
    assert [(row.uri[-7:], row.problem) for row in found] == [
        ("::a.jpg", later),
        ("::b.jpg", None),
        ("::a.jpg", later),
        ("::a.jpg", None),
    ]
    assert ByteReader().read(fields(found[-1])) == b"newest"
    assert rows(tmp_path / "x.zip", tmp_path / "x.zip") == found


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"not a zip at all", "has no zip directory"),
        (GOOD[:-30], "has no zip directory"),
        (GOOD[:40], "has no zip directory"),
        (patched(GOOD, b"PK\5\6", 10, "<H", 7), "promises 7 members and lists 2"),
        (patched(GOOD, b"PK\5\6", 12, "<L", 1 << 30), "damaged or cut off"),
        (patched(GOOD, CENTRAL, 28, "<H", 60000), "damaged"),
        (patched(GOOD, b"PK\5\6", 4, "<H", 3), "split over several files"),
    ],
)
def test_a_broken_zip_is_one_unreadable_row(tmp_path: Path, data: bytes, problem: str) -> None:
    write(tmp_path, {"x.zip": data})
    (row,) = rows(tmp_path / "x.zip")
    assert (row.uri, row.problem_status, row.size) == (f"{tmp_path}/x.zip", "unreadable", len(data))
    assert problem in (row.problem or "")
    with pytest.raises(ReadError, match=r"^x\.zip: "):
        ByteReader().read(fields(row))


def test_an_empty_zip_is_skipped_and_counted(tmp_path: Path) -> None:
    write(tmp_path, {"x.zip": zip_bytes([]), "y.zip": zip_bytes([("folder/", b"")]), "a.jpg": b"x"})
    assert outcomes(tmp_path) == {"a.jpg": "ok", "x.zip": "skipped: empty archive", "y.zip": "skipped: empty archive"}


@pytest.mark.parametrize(
    ("damaged", "status", "message"),
    [
        (GOOD.replace(GOOD[35:38], b"\xff\xff\xff", 1), "unreadable", "compressed data is damaged"),
        (patched(GOOD, LOCAL, 14, "<L", 1), "unreadable", "checksum"),
        (zip_bytes([("new.jpg", b"z"), ("b.jpg", b"y")]), "failed", "changed since"),
        (b"", "failed", "changed since"),
    ],
)
def test_what_is_wrong_at_reading_is_told_by_status(tmp_path: Path, damaged: bytes, status: str, message: str) -> None:
    write(tmp_path, {"x.zip": GOOD})
    row = rows(tmp_path / "x.zip")[0]
    write(tmp_path, {"x.zip": damaged})
    with pytest.raises(ReadError, match=message) as caught:
        ByteReader().read(fields(row))
    assert caught.value.status == status
    assert str(caught.value).startswith("x.zip::a.jpg: ")
    assert str(tmp_path) not in str(caught.value)
    assert ("changed" in message) == (CHANGED in str(caught.value))


@pytest.mark.parametrize("claimed", [10, 100_000])
def test_a_bomb_never_unpacks_past_what_it_claims(tmp_path: Path, claimed: int) -> None:
    bomb = zip_bytes([("a.jpg", bytes(20_000_000))])
    write(tmp_path, {"x.zip": patched(bomb, CENTRAL, 24, "<L", claimed)})
    (row,) = rows(tmp_path / "x.zip")
    tracemalloc.start()
    with pytest.raises(ReadError, match="unpacks to more than") as caught:
        ByteReader().read(fields(row))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000  # bytes, of the 20,000,000 inside
    assert caught.value.status == "unreadable"


def test_a_bomb_that_claims_its_size_is_an_unsupported_row(tmp_path: Path) -> None:
    write(tmp_path, {"x.zip": zip_bytes([("a.jpg", bytes(20_000_000))])})
    (row,) = rows(tmp_path / "x.zip", size_limit=1_000_000)
    assert row.problem_status == "unsupported"
    with pytest.raises(ReadError) as caught:
        ByteReader(size_limit=1_000_000).read(uri=row.uri, size=row.size, container=row.container, offset=0, packing="deflate")
    assert caught.value.status == "unsupported"


member = st.tuples(
    st.text(st.characters(codec="utf-8", exclude_characters="\0/\\:"), min_size=1, max_size=12), st.binary(max_size=300)
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    members=st.lists(member, min_size=1, max_size=6, unique_by=lambda pair: pair[0]),
    comment=st.binary(max_size=40),
    prefix=st.binary(max_size=40),
)
def test_what_zipfile_writes_is_listed_and_read_alike(
    tmp_path: Path, members: list[tuple[str, bytes]], comment: bytes, prefix: bytes
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(f"m{name}.jpg", data)
        archive.comment = comment
    write(tmp_path, {"x.zip": prefix + buffer.getvalue()})
    found = rows(tmp_path / "x.zip")
    assert [row.uri.split("x.zip::", 1)[1] for row in found] == [f"m{name}.jpg" for name, _ in members]
    reader = ByteReader()
    assert [reader.read(fields(row)) for row in found] == [data for _, data in members]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255))
def test_any_damaged_byte_gives_rows_or_reasons_never_a_crash_or_wrong_bytes(tmp_path: Path, place: int, value: int) -> None:
    damaged = bytearray(GOOD)
    damaged[place] = value
    write(tmp_path, {"x.zip": bytes(damaged), "ok.jpg": b"x"})
    reader = ByteReader()
    for row in rows(tmp_path):
        with contextlib.suppress(ReadError):
            assert reader.read(fields(row)) in (b"content" * 9, b"other" * 9, b"x")
