"""Compressed frames are decoded in a few child processes: a decoder that crashes, hangs or eats memory costs its own frame only.

Children start with the first frame that needs one, are shared by all threads, and end when this process does. Decoders hold the GIL
for a whole frame, so children are what makes several cores count as well.
"""

import json
import os
import struct
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from btc_ray.images.errors import Unreadable, Unsupported
from btc_ray.images.formats.jpeg_header import read_header

SYNTAXES = {
    "1.2.840.10008.1.2.4.50": ("JPEG", "python-gdcm"),
    "1.2.840.10008.1.2.4.51": ("JPEG extended", "python-gdcm"),
    "1.2.840.10008.1.2.4.57": ("JPEG lossless", "python-gdcm"),
    "1.2.840.10008.1.2.4.70": ("JPEG lossless", "python-gdcm"),
    "1.2.840.10008.1.2.4.80": ("JPEG-LS", "pyjpegls"),
    "1.2.840.10008.1.2.4.81": ("JPEG-LS", "pyjpegls"),
    "1.2.840.10008.1.2.4.90": ("JPEG 2000", "pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.91": ("JPEG 2000", "pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.201": ("HTJ2K", "pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.202": ("HTJ2K", "pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.203": ("HTJ2K", "pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.5": ("RLE", "pylibjpeg-rle"),
}
"""Transfer syntaxes of compressed frames that are taken: their names, and the package that decodes them."""

EXTENDED = "1.2.840.10008.1.2.4.51"
MEMORY = 3 * 2**30
"""Bytes of address space of one child."""
SECONDS = 5
"""Of CPU that a frame may take, and one more for each million pixels; J2K, the slowest, takes 0.13 s a million."""
_PATIENCE = 6  # times as long by the clock: machines are shared
_START = 120.0  # s until a child has started


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a decoder has to know of a frame, from its header."""

    syntax: str
    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    photometric: str
    planar: int

    @property
    def seconds(self) -> int:
        return SECONDS + self.rows * self.columns // 1_000_000


def syntax_name(syntax: str) -> str:
    """The name of a transfer syntax by the standard's dictionary, "private" for others."""
    from pydicom._uid_dict import UID_dictionary

    return SYNTAXES[syntax][0] if syntax in SYNTAXES else UID_dictionary.get(syntax, ("private",))[0]


class DecoderEnded(Exception):  # noqa: N818
    """A child is gone in the middle of a frame; `late`: it was ended for taking too long."""

    def __init__(self, *, late: bool) -> None:
        self.late = late


class _Child:
    def __init__(self) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        self.process = subprocess.Popen(
            # -P: this folder holds modules called as libraries are.
            [sys.executable, "-P", str(Path(__file__).with_name("frame_child.py")), str(MEMORY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self.fresh = True

    def ask(self, content: bytes, task: Task) -> tuple[dict[str, object], bytes]:
        """Send one frame and wait for its answer; a child that fails is dead afterwards."""
        described = json.dumps(asdict(task) | {"seconds": task.seconds}).encode()
        late = threading.Event()

        def stop() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(_PATIENCE * task.seconds + (_START if self.fresh else 0), stop)
        timer.daemon = True
        timer.start()
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(struct.pack("<II", len(described), len(content)) + described)
            stdin.write(content)
            stdin.flush()
            head = stdout.read(8)
            sizes = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
            answer, pixels = stdout.read(sizes[0]), stdout.read(sizes[1])
        except OSError:
            answer, pixels, sizes = b"", b"", (0, 0)
        finally:
            timer.cancel()
        if not sizes[0] or (len(answer), len(pixels)) != sizes:
            code = self.end()
            raise DecoderEnded(late=late.is_set() or code == -24)  # SIGXCPU
        if late.is_set():
            self.end()
        self.fresh = False
        return json.loads(answer), pixels

    def end(self) -> int:
        for stream in (self.process.stdin, self.process.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:
                pass
        self.process.kill() if self.process.poll() is None and not self._ending() else None
        return self.process.wait()

    def _ending(self) -> bool:
        """Whether it ends by itself within a moment, with an exit code that tells why."""
        try:
            self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            return False
        return True


class _Pool:
    """At most as many children as this process has cores; idle ones wait in a list."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.idle: list[_Child] = []
        self.lock = threading.Lock()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.cores, self.free = cores, threading.Semaphore(cores)

    def ask(self, content: bytes, task: Task, *, anew: bool = False) -> tuple[dict[str, object], bytes]:
        """Ask an idle child, or with `anew` one that has seen no other frame."""
        with self.free:
            with self.lock:
                child = self.idle.pop() if self.idle and not anew else None
            child = child or _Child()
            answer = child.ask(content, task)
            if child.process.poll() is None:
                with self.lock:
                    self.idle.append(child)
                    spare = self.idle.pop(0) if len(self.idle) > self.cores else None
                if spare is not None:
                    spare.end()
            return answer

    def close(self) -> None:
        with self.lock:
            children, self.idle = self.idle, []
        for child in children:
            child.end()


_pools: dict[int, _Pool] = {}
_making = threading.Lock()


def _pool() -> _Pool:
    """Of this process: a fork has none of its parent's children."""
    pid = os.getpid()
    if (found := _pools.get(pid)) is not None:
        return found
    with _making:
        return _pools.setdefault(pid, _Pool())


def close() -> None:
    """End the children that are idle; the next frame starts new ones."""
    _pool().close()


def decode(content: bytes, task: Task) -> np.ndarray:
    """Decode one compressed frame to its stored words, unsigned (rows, columns) or RGB (rows, columns, 3).

    Raises:
        Unreadable: it is damaged, or its decoder crashed or took too long.
        Unsupported: the package that decodes it is not installed, or none decodes its kind.
    """
    name, package = SYNTAXES[task.syntax]
    if task.syntax == EXTENDED and _is_deep(content):  # pydicom hands them to no decoder
        raise Unsupported("a JPEG frame of 12 bits is not taken; export it uncompressed")
    try:
        try:
            answer, pixels = _pool().ask(content, task)
        except DecoderEnded as ended:
            if ended.late:
                raise
            # Once more: it may have been ended for another's sake, and others that are idle with it.
            answer, pixels = _pool().ask(content, task, anew=True)
    except DecoderEnded as ended:
        if ended.late:
            raise Unreadable(f"decoding the {name} frame took longer than {task.seconds} s; export it again") from None
        raise Unreadable(f"the {name} frame ended its decoder; it is damaged, export it again") from None
    status = answer["status"]
    if status == "missing":
        raise Unsupported(f"{name} needs a decoder ({package}); install btc-ray[dicom] ({name})")
    if status == "unsupported":
        raise Unsupported(f"a {name} frame of a rare kind is not taken; export it uncompressed")
    if status == "memory":
        raise Unreadable(f"decoding the {name} frame takes more than {MEMORY / 2**30:.0f} GB of memory; export it again")
    if status == "damaged":
        raise Unreadable(f"the {name} frame is damaged; copy the file again from its source")
    shape = answer["shape"]
    assert isinstance(shape, list)
    return np.frombuffer(pixels, np.dtype(str(answer["dtype"]))).reshape(shape)


def _is_deep(content: bytes) -> bool:
    """Whether a JPEG has more than 8 bits; what is damaged is left to its decoder."""
    try:
        return read_header(content).bits > 8
    except (Unreadable, Unsupported):
        return False
