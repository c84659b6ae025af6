"""Tar archives, plain and compressed."""

import io
import lzma
import resource
import tarfile
import zlib
from pathlib import Path

import pytest

from btc_ray.archive.entries import ReadError
from btc_ray.archive.reader import ByteReader
from btc_ray.archive.tars import XzBytes
from tests.archive.samples import jpeg, outcomes, rows, tar_bytes, write
from tests.archive.test_zips import fields

KINDS = [("x.tar", ""), ("x.tar.gz", "gz"), ("x.tgz", "gz"), ("x.tar.bz2", "bz2"), ("x.tar.xz", "xz")]
IMAGES = [(f"{number}.jpg", jpeg(number) * (number * 7)) for number in range(5)]  # the first is empty


@pytest.mark.parametrize(("name", "compression"), KINDS)
def test_members_are_read_in_any_order(tmp_path: Path, name: str, compression: str) -> None:
    write(tmp_path, {name: tar_bytes(IMAGES, compression)})
    found = rows(tmp_path / name)
    reader = ByteReader()
    assert [reader.read(fields(row)) for row in found] == [data for _, data in IMAGES]
    assert [reader.read(fields(row)) for row in reversed(found)] == [data for _, data in reversed(IMAGES)]
    assert list(ByteReader().read_many(map(fields, found), threads=2)) == [data for _, data in IMAGES]


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(
    "name", ["a.jpg", "./a.jpg", "ä/脳.jpg", f"{'long/' * 40}a.jpg", f"{'d' * 90}/{'e' * 60}.jpg", "new\nline.jpg"]
)
def test_names_of_every_layout_are_read(tmp_path: Path, layout: int, name: str) -> None:
    if layout == tarfile.USTAR_FORMAT and len(name) > 155 and "long" in name:
        pytest.skip("ustar has no room for this name")
    write(tmp_path, {"x.tar": tar_bytes([(name, b"content"), ("b.jpg", b"b")], format=layout)})
    first, second = rows(tmp_path / "x.tar")
    assert first.uri == f"{tmp_path}/x.tar::{name.removeprefix('./')}"
    assert [ByteReader().read(fields(row)) for row in (first, second)] == [b"content", b"b"]


def test_each_kind_of_member_is_a_row_or_a_reason(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, size in [
            ("folder", tarfile.DIRTYPE, 0),
            ("link.jpg", tarfile.SYMTYPE, 0),
            ("hard.jpg", tarfile.LNKTYPE, 0),
            ("link.txt", tarfile.SYMTYPE, 0),
            ("device", tarfile.CHRTYPE, 0),
            ("pipe.jpg", tarfile.FIFOTYPE, 0),
            ("../up.jpg", tarfile.REGTYPE, 1),
            ("/abs.jpg", tarfile.REGTYPE, 1),
            ("twice.jpg", tarfile.REGTYPE, 1),
            ("./twice.jpg", tarfile.REGTYPE, 1),
            ("caf\udce9.jpg", tarfile.REGTYPE, 1),
            ("inner.tar", tarfile.REGTYPE, 1),
            ("a/._b.jpg", tarfile.REGTYPE, 1),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, size, "target"
            archive.addfile(info, io.BytesIO(b"x" * size))
    write(tmp_path, {"x.tar": buffer.getvalue()})
    irregular = "skipped: not a regular file inside an archive (a link or a device)"
    link = "unsupported: a link inside an archive is not followed; extract the archive first"
    assert outcomes(tmp_path / "x.tar") == {
        "link.jpg": link,
        "hard.jpg": link,
        "link.txt": irregular,
        "device": irregular,
        "pipe.jpg": "unsupported: not a regular file but a device or a pipe",
        "../up.jpg": "unsupported: member name leaves the archive",
        "abs.jpg": "unsupported: member name leaves the archive",
        "twice.jpg": "ok",  # the later of two
        "caf\\xe9.jpg": "unsupported: the member name is not valid UTF-8; extract the archive and rename it",
        "inner.tar": "unsupported: an archive inside an archive is not opened; extract it first",
        "a/._b.jpg": "skipped: macOS leftover",
    }
    assert [row.problem for row in rows(tmp_path / "x.tar") if row.uri.endswith("twice.jpg")] == [
        "a later member of the same name replaces it",
        None,
    ]


def big(seed: int) -> bytes:
    return b"".join(jpeg(seed * 1000 + number) for number in range(100))  # does not compress


BIG = [(f"{number}.jpg", big(number)) for number in range(4)]


@pytest.mark.parametrize(("name", "compression"), KINDS)
def test_a_tar_cut_off_keeps_its_members_and_says_that_it_ends_early(tmp_path: Path, name: str, compression: str) -> None:
    whole = tar_bytes(BIG, compression)
    write(tmp_path, {name: whole[: len(whole) * 6 // 10]})
    found = rows(tmp_path / name)
    *members, archive = found
    assert archive.uri == f"{tmp_path}/{name}"
    assert archive.problem_status == "unreadable"
    assert f"ends early after {len(members)} members" in (archive.problem or "")
    good = [row for row in members if not row.problem_status]
    cut = [row for row in members if row.problem_status]
    if compression in ("", "gz"):
        # bzip2 and xz give out whole blocks only, so a cut takes more with it.
        assert len(good) >= 2
        assert [row.problem for row in cut] == ["the archive ends before this member's data does"]
    reader = ByteReader()
    assert [reader.read(fields(row)) for row in good] == [data for _, data in BIG[: len(good)]]


def test_a_tar_cut_between_members_is_noticed_by_its_missing_end_mark(tmp_path: Path) -> None:
    whole = tar_bytes([("a.jpg", bytes(512)), ("b.jpg", bytes(512))])
    write(tmp_path, {"x.tar": whole[:1024]})
    assert outcomes(tmp_path / "x.tar") == {
        "a.jpg": "ok",
        "": "unreadable: the archive ends early after 1 members (its end mark is missing); copy it again",
    }


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("x.tar", b"", "not a tar archive, or damaged at its start"),
        ("x.tar", b"nonsense" * 200, "damaged"),
        ("x.tgz", b"nonsense" * 200, "not a tar.gz archive, or damaged at its start"),
        ("x.tar.bz2", b"nonsense" * 200, "not a tar.bz2 archive"),
        ("x.tar.xz", b"nonsense" * 200, "not a tar.xz archive"),
        ("x.tgz", b"", "not a tar.gz archive"),
    ],
)
def test_what_is_no_tar_is_one_unreadable_row(tmp_path: Path, name: str, data: bytes, problem: str) -> None:
    write(tmp_path, {name: data})
    (row,) = rows(tmp_path / name)
    assert (row.uri, row.problem_status) == (f"{tmp_path}/{name}", "unreadable")
    assert problem in (row.problem or "")


def test_a_damaged_header_in_the_middle_is_told_after_the_members_before_it(tmp_path: Path) -> None:
    data = bytearray(tar_bytes([("a.jpg", bytes(512)), ("b.jpg", bytes(512)), ("c.jpg", bytes(512))]))
    data[1024:1100] = b"\xff" * 76
    write(tmp_path, {"x.tar": bytes(data)})
    assert outcomes(tmp_path / "x.tar") == {
        "a.jpg": "ok",
        "": "unreadable: the archive is damaged after 1 members; copy it again",
    }


def test_a_wrong_checksum_of_the_compressor_is_noticed_while_listing(tmp_path: Path) -> None:
    data = bytearray(tar_bytes(BIG, "gz"))
    data[-8] ^= 0xFF  # the CRC-32 in gzip's trailer
    write(tmp_path, {"x.tgz": bytes(data)})
    assert outcomes(tmp_path / "x.tgz")[""] == "unreadable: the archive is damaged after 4 members; copy it again"


@pytest.mark.timeout(20)
def test_a_header_with_a_negative_size_does_not_send_the_listing_round_for_ever(tmp_path: Path) -> None:
    first = tarfile.TarInfo("a.jpg")
    header = bytearray(first.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # base-256 for -1024
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:512]))
    write(tmp_path, {"x.tar": bytes(header) + bytes(header) + bytes(1024), "ok.jpg": b"x"})
    found = outcomes(tmp_path)
    assert found["x.tar"].startswith("unreadable: ")


@pytest.mark.parametrize(("name", "compression"), KINDS[:2])
def test_an_empty_tar_is_skipped_and_counted(tmp_path: Path, name: str, compression: str) -> None:
    write(tmp_path, {name: tar_bytes([], compression), "a.jpg": b"x"})
    assert outcomes(tmp_path) == {"a.jpg": "ok", name: "skipped: empty archive"}


@pytest.mark.parametrize(("name", "compression"), KINDS)
@pytest.mark.parametrize("new", [[("0.jpg", b"other size")], [("b.jpg", b"content"), ("a.jpg", b"content")], []])
def test_a_tar_replaced_since_the_listing_is_noticed(
    tmp_path: Path, name: str, compression: str, new: list[tuple[str, bytes]]
) -> None:
    write(tmp_path, {name: tar_bytes([("a.jpg", b"content"), ("b.jpg", b"content")], compression)})
    found = rows(tmp_path / name)
    write(tmp_path, {name: tar_bytes(new, compression)})
    reader = ByteReader()
    for row in found:
        with pytest.raises(ReadError, match="changed since") as caught:
            reader.read(fields(row))
        assert caught.value.status == "failed"


def test_damage_in_a_compressed_tar_is_unreadable_and_earlier_members_stay_readable(tmp_path: Path) -> None:
    whole = tar_bytes(BIG, "gz")
    write(tmp_path, {"x.tgz": whole})
    found = rows(tmp_path / "x.tgz")
    write(tmp_path, {"x.tgz": whole[: len(whole) * 6 // 10]})
    results = list(ByteReader().read_many(map(fields, found)))
    assert results[:2] == [data for _, data in BIG[:2]]
    assert [result.status for result in results[2:]] == ["unreadable"] * 2  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "compression"), [("x.tar", ""), ("x.tar.gz", "gz"), ("x.tar.xz", "xz"), ("x.tar.bz2", "bz2")])
def test_tars_that_are_joined_are_all_listed_and_read(tmp_path: Path, name: str, compression: str) -> None:
    images = [(f"{number}.jpg", jpeg(number)) for number in range(5)]
    parts = [tar_bytes(images[:2], compression), tar_bytes([], compression), tar_bytes(images[2:3], compression)]
    write(tmp_path, {name: b"".join([*parts, tar_bytes(images[3:], compression, format=tarfile.GNU_FORMAT)])})
    found = rows(tmp_path / name)
    assert [row.problem for row in found] == [None] * 5
    assert list(ByteReader().read_many(map(fields, found))) == [data for _, data in images]


@pytest.mark.parametrize(
    ("behind", "told"),
    [
        (bytes(30_000), None),
        (b"a note" + bytes(600), "after the end mark that follows 2 members there is something that is no tar"),
        (tar_bytes([("c.jpg", jpeg(3) * 9)])[:700], "the archive ends early"),
    ],
)
def test_what_follows_the_end_mark_of_a_tar_is_told(tmp_path: Path, behind: bytes, told: str | None) -> None:
    write(tmp_path, {"x.tar": tar_bytes([("a.jpg", jpeg(1)), ("b.jpg", jpeg(2))]) + behind})
    first, second, *rest = rows(tmp_path / "x.tar")
    assert (first.problem, second.problem) == (None, None)
    assert [told is not None and told in (row.problem or "") for row in rest[-1:]] == [True] * (told is not None)


@pytest.mark.slow
def test_a_compressed_tar_that_unpacks_to_far_more_than_its_size_is_stopped(tmp_path: Path) -> None:
    """One of 1 GiB of zeros in 140 kB: it is read no further than the budget."""
    info = tarfile.TarInfo("zeros.bin")
    info.size = 1 << 30
    with tarfile.open(tmp_path / "x.tar.xz", "w:xz", preset=0) as archive:
        small = tarfile.TarInfo("a.jpg")
        small.size = len(jpeg(1))
        archive.addfile(small, io.BytesIO(jpeg(1)))
        with (tmp_path / "zeros").open("wb") as zeros:
            zeros.truncate(info.size)
        with (tmp_path / "zeros").open("rb") as zeros:
            archive.addfile(info, zeros)
    image, whole = rows(tmp_path / "x.tar.xz")
    assert image.problem is None
    assert ByteReader().read(fields(image)) == jpeg(1)
    assert whole.problem_status == "unreadable"
    assert "unpacks to more than 250 times its size" in (whole.problem or "")


def test_an_xz_that_asks_for_gigabytes_is_told_and_not_given_them(tmp_path: Path) -> None:
    packed = bytearray(lzma.compress(tar_bytes([("a.jpg", jpeg(1))]), preset=0))
    header = 4 * (packed[12] + 1)  # of the block: flags, filter, the size of its dictionary, and a checksum
    place = 12 + 4
    assert bytes(packed[14:16]) == b"\x21\x01"
    packed[place] = 40  # 4 GiB − 1
    packed[12 + header - 4 : 12 + header] = zlib.crc32(packed[12 : 12 + header - 4]).to_bytes(4, "little")
    write(tmp_path, {"x.tar.xz": bytes(packed)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (row,) = rows(tmp_path / "x.tar.xz")
    assert "asks for more than 256 MiB of memory" in (row.problem or "")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


@pytest.mark.parametrize("behind", [b"", bytes(4096), b"something else"])
def test_what_follows_an_xz_stream_does_not_change_what_it_holds(tmp_path: Path, behind: bytes) -> None:
    packed = lzma.compress(tar_bytes([("a.jpg", jpeg(1)), ("b.jpg", jpeg(2))]))
    write(tmp_path, {"x.tar.xz": packed + behind})
    assert outcomes(tmp_path) == {"x.tar.xz::a.jpg": "ok", "x.tar.xz::b.jpg": "ok"}


def unpacked(packed: bytes, size: int) -> bytes:
    stream, found = XzBytes(io.BytesIO(packed)), b""
    while piece := stream.read(size):
        assert len(piece) <= size
        found += piece
    return found


@pytest.mark.parametrize("size", [1000, 4096, 1 << 20])
def test_xz_streams_are_read_as_lzma_reads_them(size: int) -> None:
    data = bytes(range(256)) * 3000
    packed = lzma.compress(data) + bytes(8) + lzma.compress(data[:1000])
    assert unpacked(packed, size) == data + data[:1000]
    with pytest.raises(EOFError):
        unpacked(packed[:300], size)
