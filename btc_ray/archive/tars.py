"""The tar format: `read_index` walks the headers once, `check_header` makes sure a member is still where the manifest says.

Plain tars are then read by range. Compressed ones can only be read from the start: `TarBytes` is their decompressed stream.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import tarfile
import zlib
from dataclasses import replace
from typing import IO, cast

from btc_ray import storage
from btc_ray.archive.entries import Status
from btc_ray.archive.members import Index, Member
from btc_ray.archive.names import plain_member
from btc_ray.archive.ranges import open_stream
from btc_ray.storage.limits import AFTER_END, ARCHIVE_FREE, MEMBERS_LIMIT, UNPACKED_RATIO, XZ_MEMORY, unpacks_too_far

BLOCK = 512  # bytes; headers are one, data is padded to a multiple
_LARGEST_HEADER = 16 << 20  # bytes; a "long name" above this is an attack, not a name
_STEP = 1 << 20  # bytes unpacked at a time on the way to a member

# What the three decompressors and tarfile raise on damaged data; OSError without errno is bz2's and gzip's.
DAMAGE = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, gzip.BadGzipFile, OverflowError)


class DictionaryError(ValueError):
    """An .xz that asks for more memory than unpacking may take."""

    def __str__(self) -> str:
        return f"it asks for more than {XZ_MEMORY >> 20} MiB of memory to be unpacked; pack it again with xz -9 or less"


class BombError(ValueError):
    """A compressed tar that unpacks to more than a budget allows."""

    def __str__(self) -> str:
        return f"it unpacks to more than {UNPACKED_RATIO} times its size, as no archive of images does"


class XzBytes:
    """What .xz streams, one after the other, unpack to; as `lzma.LZMAFile`, which has no limit of memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._waiting = file, b""
        self._decoder: lzma.LZMADecompressor | None = None
        self._streams, self._begun, self._ended = 0, False, False

    def read(self, size: int) -> bytes:
        """At most `size` bytes, fewer at the end. Raises EOFError where a stream breaks off, DictionaryError and lzma.LZMAError."""
        while size > 0 and not self._ended:
            if self._decoder is None and not self._next_begins():
                return b""
            assert self._decoder is not None
            packed = b""
            if self._decoder.needs_input:
                packed, self._waiting = self._waiting or self._file.read(_STEP >> 4), b""
                if not packed:
                    raise EOFError("the .xz breaks off")
            try:
                data = self._decoder.decompress(packed, size)
            except lzma.LZMAError as error:
                if "emory usage limit" in str(error):
                    raise DictionaryError from error
                if self._streams == 0 or self._begun:
                    raise
                self._ended = True  # something else than another stream follows: it is left aside, as LZMAFile does
                return b""
            self._begun = True
            if self._decoder.eof:
                self._waiting, self._decoder, self._streams = self._decoder.unused_data, None, self._streams + 1
            if data:
                return data
        return b""

    def close(self) -> None:
        """Nothing is held."""

    def _next_begins(self) -> bool:
        while not (begins := self._waiting.lstrip(b"\0")):  # streams are padded with zeros
            if not (begins := self._file.read(_STEP >> 4)):
                return False
            self._waiting = begins
        self._waiting = begins
        self._decoder, self._begun = lzma.LZMADecompressor(memlimit=XZ_MEMORY), False
        return True


class TarBytes:
    """A tar's own bytes, from the start forward. Closing it closes the file below too, which Python's decompressors leave open."""

    def __init__(self, uri: str, packing: str, options: storage.Options = None) -> None:
        self._file = open_stream(uri, options)
        self._position = 0
        self._tar: IO[bytes] = self._file
        if packing == "tar.gz":
            self._tar = cast(IO[bytes], gzip.GzipFile(fileobj=self._file, mode="rb"))
        elif packing == "tar.bz2":
            self._tar = bz2.BZ2File(self._file, "rb")
        elif packing == "tar.xz":
            self._tar = cast(IO[bytes], XzBytes(self._file))

    def read(self, size: int) -> bytes:
        """At most `size` bytes, fewer at the end. Raises BombError where they come out of too few."""
        data = self._tar.read(size)
        self._position += len(data)
        if self._tar is not self._file and unpacks_too_far(self._position, self._file.tell(), free=ARCHIVE_FREE):
            raise BombError
        return data

    def seek(self, position: int) -> int:
        """Forward to `position`, which may lie behind the end."""
        if self._tar is self._file:
            self._position = self._file.seek(position)
            return position
        while self._position < position and self.read(min(_STEP, position - self._position)):
            pass
        return position

    def close(self) -> None:
        self._tar.close()
        self._file.close()


def is_damage(error: BaseException) -> bool:
    """Whether `error` comes from broken data rather than from the disk or the network."""
    # bz2 and gzip raise OSError itself; FileNotFoundError and the like come without errno too where a store is asked.
    return isinstance(error, DAMAGE) or (type(error) is OSError and error.errno is None)


class TooManyMembersError(ValueError):
    """A tar with more members than a listing holds in memory."""


class _Forward:
    """What tarfile reads through: forward only, no header of absurd size, and it remembers how far it came and how it ended."""

    def __init__(self, stream: TarBytes) -> None:
        self._stream = stream
        self.position = 0
        self.reached = 0  # bytes known to be there
        self.last = b""
        self._ahead = b""  # a block read already, which the next archive begins with

    def tell(self) -> int:
        return self.position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        # A negative size sends tarfile backwards, for ever (CVE-2025-8194).
        if whence != io.SEEK_SET or position < self.position:
            raise tarfile.ReadError("a header has an impossible size")
        self.position = self._stream.seek(position)
        return position

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError("a header has an impossible size")
        ahead, self._ahead = self._ahead[:size], self._ahead[size:]
        self.last = ahead + self._stream.read(size - len(ahead)) if size > len(ahead) else ahead
        self.position += len(self.last)
        if self.last:
            self.reached = self.position
        return self.last

    def another_begins(self) -> bool:
        """Whether something else than zeros follows the end mark: another tar joined on, which is then read from here. Reading to the end
        also makes a decompressor check its checksum."""
        for _ in range(AFTER_END // BLOCK):
            block = self._stream.read(BLOCK)
            if block.strip(b"\0"):
                self._ahead = block
                return True
            self.position += len(block)
            if len(block) < BLOCK:
                break
        return False


def read_index(uri: str, packing: str, options: storage.Options = None) -> Index:
    """All files of a tar. A plain local one costs a read per member; a remote or compressed one is read through once.

    A tar that breaks off keeps the members before the break. Raises OSError where the file cannot be opened or read.
    """
    members: list[Member] = []
    with contextlib.closing(TarBytes(uri, packing, options)) as stream:
        through = _Forward(stream)
        broken = _collect(through, packing, members)
    if broken and members and not _is_whole(members[-1], through, uri, packing):
        members[-1] = _cut(members[-1])
    return Index(members=members, broken=broken)


def _collect(through: _Forward, packing: str, members: list[Member]) -> str | None:
    """Append every file to `members`, of all tars that are joined in the file; why one is broken, or None."""
    broken = _collect_one(through, packing, members)
    try:
        while broken is None and through.another_begins():
            before = len(members)
            broken = _collect_one(through, packing, members)
            if broken and len(members) == before:
                return f"after the end mark that follows {before} members there is something that is no tar; copy it again"
    except Exception as error:
        if not is_damage(error):
            raise
        return _what_is_broken(error, packing, members)
    return broken


def _what_is_broken(error: Exception, packing: str, members: list[Member]) -> str:
    advice = "copy it again"
    if isinstance(error, BombError | DictionaryError):
        return f"{error}; {len(members)} members before that were listed"
    if isinstance(error, TooManyMembersError):
        return f"it holds more than {MEMBERS_LIMIT:,} members; split it"
    early = isinstance(error, EOFError) or (members and isinstance(error, tarfile.ReadError)) or "end-of-stream" in str(error)
    if early:
        return f"the archive ends early after {len(members)} members; {advice}"
    if not members:
        return f"the file is not a {packing} archive, or damaged at its start; {advice}"
    return f"the archive is damaged after {len(members)} members; {advice}"


def _collect_one(through: _Forward, packing: str, members: list[Member]) -> str | None:
    advice = "copy it again"
    try:
        with tarfile.open(fileobj=cast(IO[bytes], through), mode="r:", errors="surrogateescape", encoding="utf-8") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
                if not info.isdir():
                    members.append(_member(info, packing))
                if len(members) > MEMBERS_LIMIT:
                    raise TooManyMembersError
        if through.last == bytes(BLOCK):
            return None
    except Exception as error:
        if not is_damage(error):
            raise
        return _what_is_broken(error, packing, members)
    if len(through.last) in (0, BLOCK) and (len(through.last) == 0 or not members):
        return f"the archive ends early after {len(members)} members (its end mark is missing); {advice}"
    return f"the archive is damaged after {len(members)} members; {advice}"


def _member(info: tarfile.TarInfo, packing: str) -> Member:
    sparse = info.issparse()
    status: Status | None = "unsupported" if sparse else None
    return Member(
        name=info.name,
        size=info.size,
        packed_size=info.size if packing == "tar" else None,
        offset=info.offset_data,
        packing=packing,
        kind="file" if info.isfile() else "link" if info.issym() or info.islnk() else "special",
        problem_status=status,
        problem="it is stored as a sparse file; extract the archive first" if sparse else None,
    )


def _is_whole(member: Member, through: _Forward, uri: str, packing: str) -> bool:
    end = member.offset + member.size
    if packing == "tar" and storage.is_local(uri):
        return through.reached >= end or end <= _local_size(uri)
    return member.kind != "file" or through.reached >= end


def _local_size(uri: str) -> int:
    with open_stream(uri) as stream:
        return stream.seek(0, io.SEEK_END)


def _cut(member: Member) -> Member:
    return replace(member, problem_status="unreadable", problem="the archive ends before this member's data does")


def check_header(block: bytes, *, member: str, size: int | None) -> bool:
    """Whether the 512 bytes before a member's data are still its header.

    Long names and names that are not ASCII stand in earlier blocks, so for those the size alone is compared.
    """
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    if not info.isfile() or (size is not None and info.size not in (size, 0)):  # 0: the size stands in a pax header
        return False
    return plain_member(info.name) == member or len(member) >= 100 or not member.isascii()
