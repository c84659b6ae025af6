"""The zip format, without opening an archive twice: `read_index` from its directory, `unpack` from one range of bytes.

Own code because a member must be readable from a manifest row alone: zipfile wants the whole directory again, and gives up
an archive for one bad name. Written after PKWARE's APPNOTE 6.3.10; the sections are named where they are used.
"""

import bz2
import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from stat import S_ISLNK

from btc_ray.archive.members import Index, Member
from btc_ray.archive.names import plain_member
from btc_ray.archive.ranges import Ranges
from btc_ray.storage.limits import ARCHIVE_FREE, DIRECTORY_LIMIT, MEMBERS_LIMIT, UNPACKED_FREE, UNPACKED_RATIO, unpacks_too_far

METHODS = {0: "stored", 8: "deflate", 12: "bzip2", 14: "lzma"}
_METHOD_NAMES = {
    1: "shrink",
    6: "implode",
    9: "deflate64",
    93: "zstandard",
    95: "xz",
    96: "jpeg",
    97: "wavpack",
    98: "ppmd",
    99: "AES",
}
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # traditional, strong, masked headers (4.4.4)
_DESCRIPTOR, _UTF8 = 0x8, 0x800

_END = struct.Struct("<4s4H2LH")  # 4.3.16
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_LOCATOR64 = struct.Struct("<4sLQL")  # 4.3.15
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # 4.3.12
LOCAL = struct.Struct("<4s5H3L2H")  # 4.3.7
_BLOWN_UP = (
    f"members of this archive that unpack to more than {UNPACKED_RATIO} times their size hold more than {ARCHIVE_FREE >> 20} MiB, "
    "as no archive of images does"
)
_MAX32 = 0xFFFFFFFF
_WRAP = 1 << 32
_DOS_FOLDER = 0x10  # of the external attributes
_UNICODE_PATH = 0x7075
DESCRIPTOR_SIZE = 24  # bytes: signature, CRC, two sizes of 8
EXTRA_GUESS = 512  # bytes asked for on top, so that a local header with extra fields costs one request, not two


class BrokenZipError(ValueError):
    """Not a zip, or its directory or a member is damaged. The text is for a person."""


def read_index(file: Ranges) -> Index:
    """The members in directory order, by two or three range reads. Raises BrokenZipError; memory is one directory."""
    directory, start_of_zip, total = _directory(file)
    if total > MEMBERS_LIMIT:
        raise BrokenZipError(f"it holds more than {MEMBERS_LIMIT:,} members; split it")
    members: list[Member] = []
    position = 0
    while len(members) < total or position < len(directory):
        if directory[position : position + 4] != b"PK\1\2":
            break
        try:
            member, position = _central_member(directory, position, start_of_zip, file.size)
        except (struct.error, IndexError) as error:
            raise BrokenZipError("the zip directory is damaged") from error
        members.append(member)
    # Without zip64 the count has 16 bits; some writers let it wrap.
    if len(members) & 0xFFFF != total & 0xFFFF or (total > 0xFFFF and len(members) != total):
        raise BrokenZipError(f"the zip directory is damaged: it promises {total} members and lists {len(members)}")
    if start_of_zip and start_of_zip % _WRAP == 0:
        start_of_zip, members = 0, _unwrapped(members)
    return Index(
        members=_budgeted([member for member in members if not _is_folder(member)], file.size), broken=_joined(file, start_of_zip)
    )


def _is_folder(member: Member) -> bool:
    return member.name.endswith(("/", "\\"))


def _unwrapped(members: list[Member]) -> list[Member]:
    """Above 4 GiB macOS writes offsets without their upper half: they are counted on where they begin again from below.

    A gap of 4 GiB between two members cannot be seen here; the reader looks for the header (`places`)."""
    base, before = 0, 0
    found = []
    for member in members:
        offset = (member.offset or 0) % _WRAP
        base += _WRAP if offset < before else 0
        before = offset
        found.append(replace(member, offset=base + offset))
    return found


def places(offset: int, file_size: int) -> Iterator[int]:
    """Where the local header of a member may begin, the offset of the manifest first: 32 bits of it are true above 4 GiB."""
    yield offset
    yield from (place for place in range(offset % _WRAP, file_size, _WRAP) if place != offset)


def _budgeted(members: list[Member], file_size: int) -> list[Member]:
    """The members, with a problem where together they ask for what no archive of images does: one range of bytes for several of them,
    or well-packed nothing in such numbers that each alone would pass."""
    problems: dict[int, str] = {}
    sound = [number for number, member in enumerate(members) if not member.problem]
    if sum(members[number].packed_size or 0 for number in sound) > file_size:
        reached, before = 0, -1
        for number in sorted(sound, key=lambda number: members[number].offset or 0):
            start = members[number].offset or 0
            if start < reached:
                problems[number] = problems[before] = (
                    "several members of the archive claim the same bytes; extract it and zip it again"
                )
            if start + (members[number].packed_size or 0) > reached:
                reached, before = start + (members[number].packed_size or 0), number
    blown_up = 0
    for number in sound:
        member = members[number]
        if unpacks_too_far(member.size, member.packed_size or 0, free=0):
            blown_up += min(member.size, UNPACKED_FREE)
            if blown_up > ARCHIVE_FREE:
                problems.setdefault(number, _BLOWN_UP)
    return [
        replace(member, problem_status="unsupported", problem=problems[number]) if number in problems else member
        for number, member in enumerate(members)
    ]


def _joined(file: Ranges, start_of_zip: int) -> str | None:
    """What stands before the first member: a program may (self-extracting), another zip whose directory nobody reads may not."""
    if start_of_zip < _END.size:
        return None
    before = file.read(max(0, start_of_zip - (1 << 16) - _END.size), start_of_zip)
    place = before.rfind(b"PK\5\6")
    if place < 0 or place + _END.size + int.from_bytes(before[place + 20 : place + 22], "little") != len(before):
        return None
    return (
        "several zips are joined in this file, and only the members of the last are listed; split it, or unpack and zip it again"
    )


def _directory(file: Ranges) -> tuple[bytes, int, int]:
    """The bytes of the directory, where the zip begins in the file (self-extracting ones have a program before), members
    promised.
    """
    tail_start = max(0, file.size - (1 << 16) - _END.size - _LOCATOR64.size - _END64.size)
    tail = file.read(tail_start, file.size)
    end = _end_record(tail)
    if end < 0:
        kind = "is empty (0 bytes)" if file.size == 0 else "has no zip directory at its end: it is cut off, damaged or not a zip"
        raise BrokenZipError(f"the file {kind}; copy it again and test it with: unzip -t")
    _, disk, _, _, total, size, offset, _ = _END.unpack_from(tail, end)
    end_at = tail_start + end
    locator = end - _LOCATOR64.size
    if locator >= 0 and tail[locator : locator + 4] == b"PK\6\7":
        _, _, where, _ = _LOCATOR64.unpack_from(tail, locator)
        beside = tail_start + locator - _END64.size
        for place in (beside, where):
            record = file.read(place, place + _END64.size) if place >= 0 else b""
            if len(record) == _END64.size and record[:4] == b"PK\6\6":
                _, _, _, _, disk, _, _, total, size, offset = _END64.unpack(record)
                end_at = place
                break
    if disk not in (0, 0xFFFF):
        raise BrokenZipError("it is one part of a zip split over several files; join them first (zip -s 0)")
    begin = end_at - size
    for start in (begin, offset):
        if total == 0 and size == 0:
            return b"", 0, 0
        if start >= 0 and start + size <= end_at:
            if size > DIRECTORY_LIMIT:
                raise BrokenZipError(f"its directory has more than {DIRECTORY_LIMIT >> 20} MiB; split the archive")
            directory = file.read(start, start + size)
            if directory[:4] == b"PK\1\2" and len(directory) == size:
                return directory, start - offset, total
    raise BrokenZipError("the zip directory is damaged or cut off; copy the file again and test it with: unzip -t")


def _end_record(tail: bytes) -> int:
    """Where the end record begins in the last bytes of the file, or -1; one whose comment ends with the file is the likelier."""
    fallback = -1
    place = len(tail)
    while (place := tail.rfind(b"PK\5\6", 0, max(place, 0))) >= 0:
        if place + _END.size <= len(tail):
            comment_ends = place + _END.size + int.from_bytes(tail[place + 20 : place + 22], "little")
            if comment_ends == len(tail):
                return place
            fallback = place if fallback < 0 else fallback
    return fallback


def _central_member(directory: bytes, position: int, start_of_zip: int, file_size: int) -> tuple[Member, int]:
    fields = _CENTRAL.unpack_from(directory, position)
    _, made_by, _, flags, method, _, _, _, packed, size, name_size, extra_size, comment_size, _, _, attributes, offset = fields
    name_at = position + _CENTRAL.size
    extra_at = name_at + name_size
    after = extra_at + extra_size + comment_size
    if after > len(directory):
        raise BrokenZipError("the zip directory is damaged: a name runs past its end")
    size, packed, offset = _zip64_values(directory[extra_at : extra_at + extra_size], size, packed, offset)
    name = decode_name(directory[name_at:extra_at], flags, directory[extra_at : extra_at + extra_size])
    problem: str | None = None
    if flags & _ENCRYPTED:
        problem = "the member is encrypted; extract it with its password first"
    elif method not in METHODS:
        problem = f"its compression ({_METHOD_NAMES.get(method, f'method {method}')}) is not read; extract it and zip it again"
    cut = problem is None and start_of_zip + offset + LOCAL.size + packed > file_size
    if attributes & _DOS_FOLDER and size == 0 and not name.endswith(("/", "\\")):
        name += "/"  # some writers mark a folder in its attributes only
    member = Member(
        name=name,
        size=size,
        packed_size=packed,
        offset=start_of_zip + offset,
        packing=METHODS.get(method),
        # 3 is Unix, which keeps the file mode in the high half (4.4.15).
        kind="link" if made_by >> 8 == 3 and S_ISLNK(attributes >> 16) else "file",
        problem_status="unsupported" if problem else "unreadable" if cut else None,
        problem=problem or ("its data would lie beyond the end of the archive" if cut else None),
    )
    return member, after


def _zip64_values(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The 64-bit values of the extra field 1, for those of the three that say "see there" (4.5.3)."""
    values = [size, packed, offset]
    body, at = next((body for kind, body in _extra_fields(extra) if kind == 1), b""), 0
    for number in range(3):
        if values[number] == _MAX32 and at + 8 <= len(body):
            values[number] = struct.unpack_from("<Q", body, at)[0]
            at += 8
    return values[0], values[1], values[2]


def decode_name(raw: bytes, flags: int, extra: bytes = b"") -> str:
    """UTF-8 where the flag says so (bytes that are not become surrogates; 4.4.4, bit 11), or the extra field of Info-ZIP (4.6.9), or
    where the bytes are UTF-8: macOS sets no flag, and code page 437 gives such a sequence by accident only. Else code page 437, as
    every reader does.
    """
    if flags & _UTF8:
        return raw.decode("utf-8", "surrogateescape")
    if raw.isascii():
        return raw.decode("ascii")
    for kind, body in _extra_fields(extra):
        if kind == _UNICODE_PATH and body[:1] == b"\1" and body[1:5] == struct.pack("<L", zlib.crc32(raw)):
            return body[5:].decode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp437")


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        yield kind, extra[4 : 4 + length]
        extra = extra[4 + length :]


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalHeader:
    """The header before a member's data: its own length, the name in it, and the CRC (None: a descriptor after the data has it)."""

    length: int
    name: str
    crc: int | None


def local_header(data: bytes) -> LocalHeader | None:
    """The local header that `data` begins with (the whole name must be in it), or None where there is none."""
    if len(data) < LOCAL.size or data[:4] != b"PK\3\4":
        return None
    _, _, flags, _, _, _, crc, _, _, name_size, extra_size = LOCAL.unpack_from(data)
    name_end = LOCAL.size + name_size
    name = decode_name(data[LOCAL.size : name_end], flags, data[name_end : name_end + extra_size])
    return LocalHeader(length=name_end + extra_size, name=plain_member(name), crc=None if flags & _DESCRIPTOR else crc)


def descriptor_crc(after: bytes, size: int, packed: int) -> int | None:
    """The CRC of a data descriptor (4.3.9): signature or none, sizes of 4 or 8 bytes; None where no form fits."""
    for layout in ("<4sLQQ", "<4sLLL"):
        if len(after) >= struct.calcsize(layout):
            signature, crc, *sizes = struct.unpack_from(layout, after)
            if signature == b"PK\7\x08" and sizes == [packed, size]:
                return int(crc)
    for layout in ("<LQQ", "<LLL"):
        if len(after) >= struct.calcsize(layout):
            crc, *sizes = struct.unpack_from(layout, after)
            if sizes == [packed, size]:
                return int(crc)
    return None


def unpack(packed: bytes, *, packing: str, size: int, crc: int | None) -> bytes:
    """`size` bytes out of `packed`; never allocates more than `size` + 1. Raises BrokenZipError where length or CRC differ."""
    try:
        data = _decompress(packed, packing, size)
    except (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError, struct.error) as error:
        raise BrokenZipError("its compressed data is damaged") from error
    if len(data) != size:
        raise BrokenZipError(
            f"it unpacks to {'more' if len(data) > size else 'less'} than the {size:,} bytes the archive promises"
        )
    if crc is not None and zlib.crc32(data) != crc:
        raise BrokenZipError("its checksum (CRC-32) does not match")
    return data


def _decompress(packed: bytes, packing: str, size: int) -> bytes:
    if packing == "stored":
        return packed
    if packing == "deflate":
        return zlib.decompressobj(-15).decompress(packed, size + 1)
    if packing == "bzip2":
        return bz2.BZ2Decompressor().decompress(packed, size + 1)
    _, properties_size = struct.unpack_from("<HH", packed)  # 5.8.8
    properties, dictionary = struct.unpack_from("<BL", packed, 4)
    rest, lc = divmod(properties, 9)
    pb, lp = divmod(rest, 5)
    # The dictionary is allocated at once, and none larger than the data is ever used.
    filters = [{"id": lzma.FILTER_LZMA1, "lc": lc, "lp": lp, "pb": pb, "dict_size": min(dictionary, max(size, 4096))}]
    # max_length is the exact size: without an end mark the decoder cannot tell that it is done.
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(packed[4 + properties_size :], size)
