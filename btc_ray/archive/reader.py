"""Manifest rows → bytes, on any machine: `ByteReader` opens what a row needs and keeps it open.

Loose files, zip members and members of plain tars cost one read (two for zips with long local headers). A compressed tar can
only be read from its start: rows in manifest order decompress it once per reader, a row further back starts again. Zip and tar
are the better choice for many workers.
"""

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

from btc_ray import storage
from btc_ray.archive import names, tars, zips
from btc_ray.archive.entries import SIZE_LIMIT, ReadError
from btc_ray.archive.ranges import Ranges, open_ranges, open_regular
from btc_ray.storage.limits import ANSWER_LIMIT
from btc_ray.storage.redact import redact
from btc_ray.storage.retries import expect_answers, explain, retrying
from btc_ray.storage.sealed import SealedError, unseal

THREADS = 16  # remote reads at once in `read_many`
OPEN_ARCHIVES = 8
_BLOCK = 1 << 20  # bytes decompressed at a time
_KEPT = 16 << 20  # bytes of a compressed tar kept behind its position: a few batches of images

CHANGED = "the archive changed since the manifest was written; make a new run with the changed archive"


class _ChangedError(Exception):
    pass


class _Stream:
    """One compressed tar being read forward. The lock covers its position.

    The last bytes stay in memory: threads that share a reader take neighbouring batches, and would otherwise send each other back
    to the start of the archive.
    """

    def __init__(self, uri: str, packing: str, options: storage.Options) -> None:
        self._open = lambda: tars.TarBytes(uri, packing, options)
        self._lock = threading.Lock()
        self._stream: tars.TarBytes | None = None
        self._position = 0
        self._kept = bytearray()  # the decompressed bytes that end at the position

    def read(self, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of the decompressed tar, fewer where it ends; after any error the next read starts anew."""
        with self._lock:
            try:
                if self._stream is None or start < self._position - len(self._kept):
                    self._close()
                    self._stream, self._position = self._open(), 0
                while self._position < end and (data := self._stream.read(min(_BLOCK, end - self._position))):
                    self._position += len(data)
                    self._kept += data
                    if self._position <= start:  # still on the way: what is behind is dropped as it passes
                        self._forget()
                first = self._position - len(self._kept)
                found = bytes(self._kept[max(start - first, 0) : max(end - first, 0)])
                self._forget()
                return found
            except BaseException:
                self._close()
                raise

    def _forget(self) -> None:
        if len(self._kept) > 2 * _KEPT:  # twice, so that moving the rest to the front is paid once in _KEPT bytes
            del self._kept[:-_KEPT]

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None
        self._kept.clear()

    def __del__(self) -> None:
        self._close()


class ByteReader:
    """Reads manifest rows; safe to share between threads, cheap to make and to pickle (open files stay behind).

    `size_limit` (bytes) bounds what one row may hold; `open_archives` is how many archives stay open, the least used closed
    first.
    """

    def __init__(
        self, options: storage.Options = None, *, size_limit: int = SIZE_LIMIT, open_archives: int = OPEN_ARCHIVES
    ) -> None:
        self._options = dict(options or {})
        self._size_limit = size_limit
        self._open_archives = open_archives
        self._lock = threading.Lock()
        self._archives: OrderedDict[tuple[str, str], Ranges | _Stream] = OrderedDict()
        self._directory: tuple[Ranges | None, frozenset[int]] = None, frozenset()

        expect_answers()  # there is a manifest, so a store was there when it was listed

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._options, self._size_limit, self._open_archives)

    def read(self, row: Mapping[str, Any] | None = None, /, **fields: Any) -> bytes:
        """The bytes of one manifest row, given as a mapping or as keywords (`uri`, `size`, `container`, `offset`,
        `packed_size`, `packing`).

        Raises ReadError, for a row with `problem_status` too: with that status and its `problem`.
        """
        values = {**(row or {}), **fields}
        uri: str = values["uri"] if values.get("frame") is None else names.file_of(values["uri"])
        try:
            if container := values.get("container"):
                values["container"] = unseal(container, self._options)
                uri = values["container"] + uri[len(container) :]
            else:
                uri = unseal(uri, self._options)
            if values.get("problem_status"):
                raise ReadError(values.get("problem") or "known not to be readable", status=values["problem_status"])
            if max(values.get("size") or 0, values.get("packed_size") or 0) > self._size_limit:
                raise ReadError(names.too_large(self._size_limit), status="unsupported")
            if values.get("container"):
                return self._member(uri, values)
            return self._loose(uri, values.get("size"))
        except ReadError as error:
            raise ReadError(self._message(uri, values, str(error)), status=error.status) from error
        except zips.BrokenZipError as error:
            raise ReadError(self._message(uri, values, str(error)), status="unreadable") from error
        except _ChangedError as error:
            raise ReadError(self._message(uri, values, CHANGED), status="failed") from error
        except (storage.StorageError, SealedError) as error:
            raise ReadError(self._message(uri, values, str(error)), status="failed") from error
        except Exception as error:
            raise ReadError(self._message(uri, values, explain(error)), status="failed") from error

    def read_many(self, rows: Iterable[Mapping[str, Any]], *, threads: int = THREADS) -> Iterator[bytes | ReadError]:
        """The bytes, or the error, of each row in order. Remote rows are read ahead by `threads`; at most 2 × `threads` wait
        in memory.

        Local rows and members of compressed tars, which must come in order, are read when their turn comes.
        """
        waiting: deque[Mapping[str, Any] | Future[bytes | ReadError]] = deque()
        pool: ThreadPoolExecutor | None = None
        try:
            for row in rows:
                if _is_serial(row):
                    waiting.append(row)
                else:
                    pool = pool or ThreadPoolExecutor(max_workers=threads, thread_name_prefix="reading")
                    waiting.append(pool.submit(self._read_or_error, row))
                if len(waiting) >= 2 * threads:
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            if pool:
                pool.shutdown(wait=False, cancel_futures=True)

    def _read_or_error(self, row: Mapping[str, Any]) -> bytes | ReadError:
        try:
            return self.read(row)
        except ReadError as error:
            return error

    def _result(self, waiting: "Mapping[str, Any] | Future[bytes | ReadError]") -> bytes | ReadError:
        return waiting.result() if isinstance(waiting, Future) else self._read_or_error(waiting)

    def _message(self, uri: str, values: Mapping[str, Any], reason: str) -> str:
        """File name and reason; folders of some machine tell a reader nothing, and the row has the whole URI."""
        container = values.get("container")
        shown = names.last_name(container) + uri[len(container) :] if container else names.last_name(uri)
        return redact(f"{names.printable(shown)[0]}: {reason}", self._options)

    def _loose(self, uri: str, size: int | None) -> bytes:
        if storage.is_local(uri):
            descriptor = open_regular(storage.local_path(uri))
            with os.fdopen(descriptor, "rb") as file:
                self._bounded(os.fstat(descriptor).st_size)
                return file.read()
        fs, path = storage.filesystem(uri, self._options)
        if storage.scheme(uri) in ("http", "https"):  # what a server says of lengths is not asked for: the reading is bounded
            limit = min(max(size or 0, ANSWER_LIMIT), self._size_limit)
            answer: bytes = retrying(lambda: fs.cat_file(path, limit=limit))
            return answer
        if size is None:
            size = retrying(lambda: fs.info(path)).get("size")
            self._bounded(size or 0)
        if size is None:
            with retrying(lambda: fs.open(path, "rb")) as file:
                data: bytes = file.read(self._size_limit + 1)
        else:
            data = retrying(lambda: fs.cat_file(path))
        self._bounded(len(data))
        return data

    def _bounded(self, size: int) -> None:
        if size > self._size_limit:
            raise ReadError(names.too_large(self._size_limit), status="unsupported")

    def _member(self, uri: str, values: Mapping[str, Any]) -> bytes:
        container, offset, packing = values["container"], values.get("offset"), values.get("packing")
        if offset is None or packing is None:
            raise ReadError("the row does not say where in the archive it is; list the inputs again", status="failed")
        member = uri[len(container) + len("::") :]
        if packing in zips.METHODS.values():
            return self._zip_member(container, member, values)
        return self._tar_member(container, member, values)

    def _zip_member(self, container: str, member: str, values: Mapping[str, Any]) -> bytes:
        file = cast(Ranges, self._opened(container, "zip"))
        size, packed = values["size"], values["packed_size"]
        guess = zips.LOCAL.size + 4 * len(member) + zips.EXTRA_GUESS  # 4: bytes of the longest UTF-8 letter
        start, head, header = self._local_header(file, member, values, guess + packed + zips.DESCRIPTOR_SIZE)
        begin, crc = header.length, header.crc
        end = begin + packed + zips.DESCRIPTOR_SIZE
        if end > guess + packed + zips.DESCRIPTOR_SIZE:
            head += file.read(start + len(head), start + end)
        if len(head) < begin + packed:
            raise zips.BrokenZipError("the archive ends before this member's data does")
        if crc is None:
            crc = zips.descriptor_crc(head[begin + packed : end], size, packed)
        return zips.unpack(head[begin : begin + packed], packing=values["packing"], size=size, crc=crc)

    def _local_header(
        self, file: Ranges, member: str, values: Mapping[str, Any], length: int
    ) -> tuple[int, bytes, zips.LocalHeader]:
        """Where a member's local header stands, `length` bytes from there, and the header. The directory is the truth: where the local
        header spells the name otherwise, or offsets lack their upper half, it is asked whether it still means this place."""
        fallback: tuple[int, bytes, zips.LocalHeader] | None = None
        for start in zips.places(values["offset"], file.size):
            head = file.read(start, start + length)
            header = zips.local_header(head)
            if header is not None and header.name == member:
                return start, head, header
            if header is not None and fallback is None:
                fallback = start, head, header
        if not self._is_listed(file, member, values):
            raise _ChangedError
        if fallback is None or fallback[0] != values["offset"]:
            raise zips.BrokenZipError("no member begins where the archive's directory says; copy the archive again")
        return fallback

    def _is_listed(self, file: Ranges, member: str, values: Mapping[str, Any]) -> bool:
        """Whether the zip's directory still has the member as the manifest has it; the last directory read is kept."""
        kept, listed = self._directory
        if kept is not file:
            try:
                index = zips.read_index(file)
            except zips.BrokenZipError:  # it could be read when it was listed
                return False
            listed = frozenset(
                hash((names.plain_member(names.printable(item.name)[0]), item.offset, item.size, item.packed_size))
                for item in index.members
            )
            self._directory = file, listed
        return hash((member, values["offset"], values["size"], values["packed_size"])) in listed

    def _tar_member(self, container: str, member: str, values: Mapping[str, Any]) -> bytes:
        offset, size = values["offset"], values["size"]
        if offset < tars.BLOCK:
            raise _ChangedError
        try:
            data = self._opened(container, values["packing"]).read(offset - tars.BLOCK, offset + size)
        except Exception as error:
            if tars.is_damage(error):
                raise ReadError("the compressed archive is damaged here; copy it again", status="unreadable") from error
            raise
        if len(data) < tars.BLOCK or not tars.check_header(data[: tars.BLOCK], member=member, size=size):
            raise _ChangedError
        if len(data) < tars.BLOCK + size:
            raise ReadError("the archive ends before this member's data does; copy it again", status="unreadable")
        return data[tars.BLOCK :]

    def _opened(self, container: str, packing: str) -> Ranges | _Stream:
        key = (container, packing)
        with self._lock:
            archive = self._archives.get(key)
            if archive is not None:
                self._archives.move_to_end(key)
                return archive
        # Opened outside the lock: one slow archive must not hold up the others. Two threads may open it twice; one is kept.
        in_order_only = packing not in ("zip", "tar")
        archive = _Stream(container, packing, self._options) if in_order_only else open_ranges(container, self._options)
        with self._lock:
            archive = self._archives.setdefault(key, archive)
            while len(self._archives) > self._open_archives:
                self._archives.popitem(last=False)
        return archive


def _rebuild(options: dict[str, str], size_limit: int, open_archives: int) -> ByteReader:
    return ByteReader(options, size_limit=size_limit, open_archives=open_archives)


def _is_serial(row: Mapping[str, Any]) -> bool:
    place = row.get("container") or row["uri"]
    return storage.is_local(place) or str(row.get("packing") or "").startswith("tar.")
