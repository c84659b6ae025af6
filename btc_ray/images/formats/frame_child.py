"""Runs as a process of its own and decodes compressed frames: a task comes on stdin, an answer goes to stdout, until stdin ends.

A decoder that crashes or hangs takes this process with it and nothing else. It imports nothing of this package, so that it starts fast.
"""

import contextlib
import importlib
import json
import os
import resource
import struct
import sys
from typing import Any, BinaryIO

HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")
J2K = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
RLE = "1.2.840.10008.1.2.5"


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # decoders print
    os.dup2(silence, 2)
    tasks = sys.stdin.buffer
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while head := tasks.read(8):
        described, size = struct.unpack("<II", head)
        task = json.loads(tasks.read(described))
        content = tasks.read(size)
        _limit_seconds(task["seconds"])
        answer, pixels = _answer(task, content)
        _write(answers, answer, pixels)


def _limit_seconds(seconds: int) -> None:
    """Of CPU for the next frame: a hang ends even where no parent is left to see it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, hard))


def _answer(task: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        array = decode(task, content)
    except ModuleNotFoundError as error:
        return {"status": "missing", "name": error.name}, b""
    except NotImplementedError:  # how pydicom says that no decoder at hand takes this kind of frame
        return {"status": "unsupported"}, b""
    except MemoryError:
        return {"status": "memory"}, b""
    except BaseException as error:  # noqa: BLE001 — decoders raise whatever they are led to, and their words may quote the file
        return {"status": "damaged", "name": type(error).__name__}, b""
    return {"status": "ok", "dtype": array.dtype.str, "shape": list(array.shape)}, array.tobytes()


def _write(answers: BinaryIO, answer: dict[str, Any], pixels: bytes) -> None:
    described = json.dumps(answer).encode()
    answers.write(struct.pack("<II", len(described), len(pixels)) + described)
    answers.write(pixels)
    answers.flush()


def decode(task: dict[str, Any], content: bytes) -> Any:
    """One frame → stored words (rows, columns) or RGB (rows, columns, 3), of 1, 2 or 4 bytes."""
    syntax = task["syntax"]
    if syntax == RLE:
        return _rle(task, content)
    if syntax in LS:
        return _jpeg_ls(task, content)
    if syntax in J2K + HTJ2K:
        with contextlib.suppress(ModuleNotFoundError):
            return _openjpeg(task, content)
        if syntax in HTJ2K:
            raise ModuleNotFoundError(name="openjpeg")
    return _by_pydicom(task, content)


def _shaped(array: Any, task: dict[str, Any]) -> Any:
    rows, columns, samples = task["rows"], task["columns"], task["samples"]
    if array.size != rows * columns * samples:
        raise ValueError("another size than the header's")
    return array.reshape((rows, columns) if samples == 1 else (rows, columns, samples))


def _rle(task: dict[str, Any], content: bytes) -> Any:
    import numpy as np

    try:
        rle = importlib.import_module("rle.rle")
    except ModuleNotFoundError:
        return _by_pydicom(task, content)
    pixels = task["rows"] * task["columns"]
    planes = bytes(rle.decode_frame(content, pixels, task["allocated"], "<"))
    array = np.frombuffer(planes, f"<u{task['allocated'] // 8}")
    if task["samples"] == 3:  # one sample after the other
        array = np.ascontiguousarray(array.reshape(3, pixels).T)
        return _rgb(_shaped(array, task), task["photometric"])
    return _shaped(array, task)


def _jpeg_ls(task: dict[str, Any], content: bytes) -> Any:
    import numpy as np

    try:
        jpeg_ls = importlib.import_module("jpeg_ls")
    except ModuleNotFoundError:
        return _by_pydicom(task, content)
    array = np.ascontiguousarray(jpeg_ls.decode(np.frombuffer(content.rstrip(b"\0") + b"\0", np.uint8)))
    return _shaped(array, task)


def _openjpeg(task: dict[str, Any], content: bytes) -> Any:
    import numpy as np

    openjpeg = importlib.import_module("openjpeg")
    found = openjpeg.utils.get_parameters(content)
    array = openjpeg.decode(content)
    if array.dtype.kind == "i":
        array = array.view(f"u{array.dtype.itemsize}")
    if found["is_signed"] != task["signed"] and found["precision"] < task["stored"] and task["signed"]:
        # Unsigned words of fewer bits in a header that says signed: their own top bit is the sign.
        shift = 8 * array.dtype.itemsize - found["precision"]
        array = ((array << shift).view(f"i{array.dtype.itemsize}") >> shift).view(f"u{array.dtype.itemsize}")
    return _shaped(np.ascontiguousarray(array), task)


def _by_pydicom(task: dict[str, Any], content: bytes) -> Any:
    import numpy as np
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    decoder = get_decoder(UID(task["syntax"]))
    if not decoder.is_available:
        raise ModuleNotFoundError(name="gdcm")
    array, _ = decoder.as_array(
        encapsulate([content]), index=0, rows=task["rows"], columns=task["columns"], samples_per_pixel=task["samples"],
        bits_allocated=task["allocated"], bits_stored=task["stored"], pixel_representation=int(task["signed"]), number_of_frames=1,
        photometric_interpretation=task["photometric"], planar_configuration=task["planar"], pixel_keyword="PixelData",
    )  # fmt: skip
    if array.dtype.kind == "i":
        array = array.view(f"u{array.dtype.itemsize}")
    return _shaped(np.ascontiguousarray(array), task)


def _rgb(array: Any, photometric: str) -> Any:
    if photometric != "YBR_FULL":
        return array
    from pydicom.pixels import convert_color_space

    return convert_color_space(array, "YBR_FULL", "RGB")


if __name__ == "__main__":
    main()
