"""Damaged and hostile pictures: `python -m benchmarks.fuzz_images --mutants 20000`.

Small sound files of every format and layout, DICOM in several transfer syntaxes and NIfTI among them, are changed at random (bytes,
lengths, pieces left out, doubled or swapped between files, checksums mended), and each mutant goes through `prepare`, as in scoring.
Reported are the outcomes by format, the slowest mutant, the most memory, what was written on stderr, and mutants whose row says that this
program failed on them: there must be none. By its seed each mutant can be made again: `--seed S --only N` writes it to a file. Runs in
one process with a limit on its memory.
"""

import argparse
import collections
import io
import os
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from btc_ray.images.prepare import Preprocess, prepare
from btc_ray.phantoms.studies import write_studies

Mutate = Callable[[bytearray, np.random.Generator], bytes]
INTERESTING = (0, 1, 2, 3, 4, 7, 8, 16, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


def main() -> None:
    chosen = arguments(__doc__)
    files = sound_files()
    names = list(files)
    preprocess = Preprocess()
    for name, data in files.items():
        found = prepare(data, preprocess)
        assert found.status == "ok", f"{name}: {found.error}"
    before = peak_bytes()
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, resource.RLIM_INFINITY))
    outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    worst = (0.0, -1)
    failed: list[str] = []
    heavy: list[str] = []
    with StderrKept() as spoken:
        for number in numbers(chosen):
            name, data = mutant(files, names, chosen.seed, number)
            if chosen.only is not None:
                Path(f"mutant-{chosen.seed}-{number}.bin").write_bytes(data)
            peak, began = peak_bytes(), time.process_time()
            found = prepare(data, preprocess)
            seconds = time.process_time() - began
            worst = max(worst, (seconds, number))
            outcomes[name.partition(" ")[0], found.status] += 1
            reasons[_kind(found.error or "ok")] += 1
            if found.status == "failed":
                failed.append(f"mutant {number} of {name}: {found.error}")
            if seconds > chosen.slow or peak_bytes() - peak > 1e6 * chosen.memory:
                heavy.append(f"mutant {number} of {name}: {seconds:.1f} s, {(peak_bytes() - peak) / 1e6:.0f} MB more")
        told = spoken()
    total = sum(outcomes.values())
    print(f"{total:,} mutants of {len(files)} files, seed {chosen.seed}")
    for family in sorted({family for family, _ in outcomes}):
        print(
            f"  {family}: " + ", ".join(f"{count:,} {status}" for (of, status), count in sorted(outcomes.items()) if of == family)
        )
    print(
        f"slowest: {worst[0]:.2f} s (mutant {worst[1]}); most memory: {(peak_bytes() - before) / 1e6:.0f} MB more than for sound files"
    )
    print(f"written on stderr: {len(told):,} bytes; failed: {len(failed)}; too slow or too large: {len(heavy)}")
    print("most frequent reasons:")
    for reason, count in reasons.most_common(12):
        print(f"  {count:>7,}  {reason}")
    for line in [*failed[:20], *heavy[:20], *([told[:500].decode(errors="replace")] if told else [])]:
        print(line)
    sys.exit(1 if failed or heavy or told else 0)


def arguments(description: str | None) -> argparse.Namespace:
    """`mutants`, `seed`, `only`, `slow`, `memory`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="ends earlier, after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of one mutant: it is written to a file mutant-SEED-NUMBER… and tried")
    parser.add_argument("--slow", type=float, default=2.0, help="seconds of processor time")
    parser.add_argument("--memory", type=float, default=500.0, help="MB above what the process needs for a sound file")
    return parser.parse_args()


def numbers(chosen: argparse.Namespace) -> Iterator[int]:
    """Of the mutants to try, until the time is over."""
    began = time.monotonic()
    for number in [chosen.only] if chosen.only is not None else range(chosen.mutants):
        if time.monotonic() - began > chosen.seconds:
            return
        yield number


def peak_bytes() -> float:
    """Most memory that this process had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class StderrKept:
    """File descriptor 2 into a file while it lasts, since C libraries know no other."""

    def __enter__(self) -> Callable[[], bytes]:
        self._file, self._kept = tempfile.TemporaryFile(), os.dup(2)
        os.dup2(self._file.fileno(), 2)
        return self._told

    def _told(self) -> bytes:
        sys.stderr.flush()
        self._file.seek(0)
        return self._file.read()

    def __exit__(self, *_: object) -> None:
        os.dup2(self._kept, 2)
        os.close(self._kept)
        self._file.close()


def _kind(reason: str) -> str:
    """A reason without its numbers."""
    return (
        "".join("#" if letter.isdigit() else letter for letter in reason)
        .replace("#,", "")
        .replace("##", "#")
        .replace("##", "#")[:110]
    )


def picture() -> np.ndarray:
    y, x = np.mgrid[:61, :53]
    waves = np.sin(y / 9) * np.cos(x / 7) + (x + 2 * y) / 300
    return ((waves - waves.min()) / np.ptp(waves) * 255).round().astype(np.uint8)


def sound_files() -> dict[str, bytes]:
    """Small sound files; the first word of a name is its format."""
    grey = picture()
    colour = np.stack([grey, 255 - grey, grey // 2], -1)
    images = {
        "grey": Image.fromarray(grey),
        "colour": Image.fromarray(colour),
        "cmyk": Image.fromarray(colour).convert("CMYK"),
        "palette": Image.fromarray(colour).quantize(16),
        "1-bit": Image.fromarray(grey).convert("1"),
        "rgba": Image.fromarray(colour).convert("RGBA"),
        "la": Image.fromarray(grey).convert("LA"),
        "16-bit": Image.fromarray(grey.astype(np.uint16) * 99),
    }
    exif = Image.Exif()
    exif[0x0112] = 6
    wanted: list[tuple[str, str, dict[str, Any]]] = [
        *(("JPEG", mode, {"exif": exif, **options}) for mode in ("grey", "colour", "cmyk")
          for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 2})),
        *(("PNG", mode, {"exif": exif}) for mode in images if mode != "cmyk"),
        *(("BMP", mode, {}) for mode in ("grey", "colour", "palette", "1-bit", "rgba")),
        *(("WEBP", mode, options) for mode in ("grey", "colour", "rgba") for options in ({}, {"lossless": True}, {"exif": exif})),
        *(("TIFF", mode, {"compression": how}) for mode in ("grey", "colour", "palette", "rgba", "16-bit", "cmyk")
          for how in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")),
        *(("TIFF", "1-bit", {"compression": how}) for how in ("group3", "group4", "tiff_ccitt")),
        *(("TIFF", mode, {"compression": "jpeg"}) for mode in ("grey", "colour")),
    ]  # fmt: skip
    files = {}
    for kind, mode, options in wanted:
        sink = io.BytesIO()
        images[mode].save(sink, kind, **{name: value for name, value in options.items() if value is not None})
        files[f"{kind} {mode} {' '.join(f'{key}={value}' for key, value in options.items() if key != 'exif')}"] = sink.getvalue()
    for name, values in (
        ("16-bit colour", colour.astype(np.uint16) * 99),
        ("16-bit rgba", np.dstack([colour, grey]).astype(np.uint16) * 99),
    ):
        files[f"PNG {name}"] = bytes(cv2.imencode(".png", values)[1])
    for name, values in (
        ("float", grey.astype(np.float32)),
        ("16-bit colour", colour.astype(np.uint16) * 99),
        ("double", grey.astype(np.float64)),
    ):
        files[f"TIFF {name} by OpenCV"] = bytes(cv2.imencode(".tiff", values)[1])
    return files | _studies()


def _studies() -> dict[str, bytes]:
    """One slice of each series of the phantoms' DICOM, which differ in transfer syntax, and their volumes in NIfTI."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in write_studies(Path(folder), seed=1, side=96):
            if path.name == "IM00000":
                found[f"DICOM {path.relative_to(folder)}"] = path.read_bytes()
            elif path.name.endswith((".nii", ".nii.gz")):
                found[f"NIFTI {path.relative_to(folder)}"] = path.read_bytes()
    return found


def mutant(files: dict[str, bytes], names: list[str], seed: int, number: int) -> tuple[str, bytes]:
    """One file changed in one to four ways, the same for the same seed and number."""
    random = np.random.default_rng([seed, number])
    name = names[int(random.integers(len(names)))]
    data = bytearray(files[name])
    for _ in range(int(random.integers(1, 5))):
        way = int(random.integers(8))
        if len(data) < 16:
            break
        # Headers are where it hurts: half of all changes fall into the first 200 or, as TIFF has its directory there, the last 300 bytes.
        near = int(random.integers(4))
        at = int(random.integers(len(data)))
        if near == 0:
            at = min(len(data) - 9, int(random.integers(200)))
        elif near == 1:
            at = max(0, len(data) - 1 - int(random.integers(300)))
        at = min(at, len(data) - 9)
        if way <= 2:
            data[at] = int(random.integers(256))
        elif way == 3:
            size = int(random.choice([1, 2, 4, 8]))
            value = int(random.choice(np.array(INTERESTING, np.uint64))) % 2 ** (8 * size)
            data[at : at + size] = value.to_bytes(size, "little" if random.integers(2) else "big")
        elif way == 4:
            del data[at : at + int(random.integers(1, max(2, len(data) // 4)))]
        elif way == 5:
            piece = data[at : at + int(random.integers(1, 200))]
            data[at:at] = piece * int(random.choice([1, 2, 50, 2000]))
        elif way == 6:
            other = files[names[int(random.integers(len(names)))]]
            start = int(random.integers(len(other)))
            data[at : at + 64] = other[start : start + 64]
        else:
            bit = int(random.integers(8))
            data[at] ^= 1 << bit
    if name.startswith("PNG") and random.integers(4):
        data = bytearray(b"".join(_mended(bytes(data))))
    return name, bytes(data)


def _mended(data: bytes) -> Iterator[bytes]:
    """A PNG with right checksums, or nothing but checksums would ever be seen."""
    at = 8
    yield data[:8]
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        if at + 12 + length > len(data):
            break
        body = data[at + 4 : at + 8 + length]
        yield data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    yield data[at:]


if __name__ == "__main__":
    main()
