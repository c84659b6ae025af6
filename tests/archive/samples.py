"""Tiny images and archives made on the spot, and a listing in a form that tests can compare."""

import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from btc_ray.archive.entries import Entry, Skipped
from btc_ray.archive.listing import list_inputs
from btc_ray.archive.manifest import ManifestSummary, write_entries
from btc_ray.storage import Options, Place


def jpeg(seed: int = 0) -> bytes:
    """An 8 × 8 grey JPEG, another for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    return bytes(cv2.imencode(".jpg", pixels)[1])


def write_manifest(inputs: Sequence[str], destination: Place, *, skipped: Place | None = None, **flags: Any) -> ManifestSummary:
    """List `inputs`, opened with the destination's options, into a manifest; `flags` of `list_inputs` and of `write_entries`."""
    written = {name: flags.pop(name) for name in ("rows_per_part", "seen") if name in flags}
    return write_entries(
        list_inputs(inputs, options=destination.options, **flags), destination, skipped=skipped, **written
    ).summary()


def summarise(inputs: Sequence[str], *, options: Options = None, **flags: Any) -> ManifestSummary:
    """What a manifest of these inputs comes to."""
    with TemporaryDirectory() as folder:
        return write_manifest(inputs, Place(folder, dict(options or {})) / "manifest", **flags)


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def zip_bytes(members: Sequence[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression, **options) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def tar_bytes(members: Sequence[tuple[str, bytes]], compression: str = "", **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}", **options) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def listing(*inputs: str | Path, **options: Any) -> list[Entry | Skipped]:
    return list(list_inputs([str(uri) for uri in inputs], **options))


def rows(*inputs: str | Path, **options: Any) -> list[Entry]:
    return [found for found in listing(*inputs, **options) if isinstance(found, Entry)]


def outcomes(base: str | Path, *inputs: str | Path, **options: Any) -> dict[str, str]:
    """What became of each URI below `base`: `ok`, `status: problem`, or `skipped: reason`."""
    found = {}
    for item in listing(*(inputs or (base,)), **options):
        name = item.uri.removeprefix(str(base)).lstrip("/:")
        if isinstance(item, Skipped):
            found[name] = f"skipped: {item.reason}"
        else:
            found[name] = f"{item.problem_status}: {item.problem}" if item.problem_status else "ok"
    return found
