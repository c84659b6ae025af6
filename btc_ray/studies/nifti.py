"""A NIfTI file, and its name where it is a BIDS one → index rows, one a slice; its voxels say which slices show nothing."""

import io
import re
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from btc_ray.images.errors import Unreadable, Unsupported
from btc_ray.images.formats.nifti import NiftiImage, open_nifti, slice_axis
from btc_ray.studies.header import name_words, unpacked

MOST_SLICES = 8192
_SAMPLE = 200_000  # voxels that tell whether a file holds a few whole values
_FEW = 16
_MAGIC = (b"n+1\0", b"ni1\0", b"n+2\0", b"ni2\0")
_BIDS = re.compile(r"(?:^|_)(sub|ses|ce|acq)-([A-Za-z0-9]+)")


def is_nifti(head: bytes) -> bool:
    """Whether a file (unpacked) that begins so is NIfTI-1 or -2."""
    size = (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    return (348 in size and head[344:348] in _MAGIC[:2]) or (540 in size and head[4:8] in _MAGIC[2:])


def bids_names(uri: str) -> dict[str, str]:
    """`sub`, `ses`, `ce`, `acq` and `suffix` of a path that is named as BIDS has it; empty for any other."""
    path = PurePosixPath(uri.replace("::", "/"))
    found = dict(_BIDS.findall(path.name))
    if "sub" not in found:
        return {}
    for part in path.parts[:-1]:
        if part.startswith("ses-"):
            found.setdefault("ses", part[4:])
    return found | {"suffix": path.name.split(".")[0].rpartition("_")[2]}


def nifti_rows(data: bytes, uri: str, file_id: int) -> list[dict[str, Any]]:
    """The index rows of one NIfTI file, at least one; `data` is the whole file, packed or not."""
    row: dict[str, Any] = {"file_id": file_id, "uri": uri, "kind": "nifti", "frame": 0, "frames": 1}
    row |= _named(uri)
    if not data:
        return [row | {"problem": "the file is empty"}]
    try:
        head = unpacked(data, 544)
        return _rows(data, head, row)
    except Exception as error:  # noqa: BLE001 — whatever a damaged header leads nibabel to
        return [row | {"problem": f"the NIfTI header is damaged ({type(error).__name__}); copy the file again from its source"}]


def _named(uri: str) -> dict[str, Any]:
    bids = bids_names(uri)
    subject, session = bids.get("sub"), bids.get("ses")
    exam = f"sub-{subject}" + (f"_ses-{session}" if session else "") if subject else None
    return {
        "patient_id": f"sub-{subject}" if subject else None,
        "study_uid": exam or uri,
        "series_uid": uri,
        "sop_uid": uri,
        "suffix": bids.get("suffix"),
        "text": re.sub(r"(sub|ses|run)-[a-z0-9]+_?", "", name_words(uri)),
        "contrast_agent": True if "ce" in bids else None,
        "sop_class": None,
        "modality": "CT" if re.match(r"ct[_-]", name_words(uri)) and not subject else None,
        "transfer_syntax": "nifti",
    }


def _rows(data: bytes, head: bytes, row: dict[str, Any]) -> list[dict[str, Any]]:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    two = head[4:8] in _MAGIC[2:]
    kind = Nifti2Header if two else Nifti1Header
    header = kind.from_fileobj(io.BytesIO(head), check=False)
    shape = tuple(int(size) for size in header.get_data_shape())
    if not 1 <= len(shape) <= 7 or min(shape, default=0) < 1:
        return [row | {"problem": "its dimensions are not positive; export it again"}]
    volumes = int(np.prod([float(size) for size in shape[3:]])) if len(shape) > 3 else 1
    shape = (*shape[:3], *(1,) * (3 - len(shape[:3])))
    zooms = tuple(abs(float(zoom)) or 1.0 for zoom in (*header.get_zooms()[:3], 1.0, 1.0)[:3])
    known = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    affine = np.asarray(header.get_best_affine(), float)
    usable = known and np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-6
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    image = _opened(data)
    axis = slice_axis(shape, zooms, lps[:3, :3] if usable else np.eye(3)) if image is None else image.axis
    down, across = [other for other in range(3) if other != axis][::-1]
    count = shape[axis]
    if count > MOST_SLICES or max(shape) > 32_766:
        return [row | {"problem": "it claims more slices or pixels than an image has; export it again"}]
    dtype = header.get_data_dtype()
    row |= {
        "frames": count,
        "rows": shape[down],
        "columns": shape[across],
        "row_spacing": zooms[down],
        "column_spacing": zooms[across],
        "thickness": zooms[axis],
        "volumes": volumes,
        "photometric": "RGB" if dtype.names else "MONOCHROME2",
        "label_like": _label_like(header, dtype, data if image is None else image.voxels.reshape(-1, order="F")),
    }
    empty = [None] * count if image is None else image.empty().tolist()
    if not usable:
        return [row | {"frame": number, "empty": empty[number]} for number in range(count)]
    directions = lps[:3, :3] / np.linalg.norm(lps[:3, :3], axis=0)
    row["orientation"] = [*directions[:, across].tolist(), *directions[:, down].tolist()]
    return [
        row | {"frame": number, "empty": empty[number], "position": (lps[:3, 3] + number * lps[:3, axis]).tolist()}
        for number in range(count)
    ]


def _opened(data: bytes) -> NiftiImage | None:
    """The volume, None where it gives no picture, which scoring says the reason of."""
    try:
        return open_nifti(data)
    except (Unreadable, Unsupported):
        return None


def _label_like(header: Any, dtype: np.dtype[Any], content: bytes | np.ndarray) -> bool:
    """Whether the header says that it is no picture, or a sample of the voxels holds few values, all whole. `content`: the voxels, or the
    file where it cannot be opened."""
    intent = int(header["intent_code"])
    if 2 <= intent <= 24 or 1001 <= intent <= 1011 or dtype.kind == "b" or b"SPM{" in bytes(header["descrip"]):
        return True
    if dtype.names or dtype.kind not in "iuf":
        return False
    voxels = content if isinstance(content, np.ndarray) else _stored(content, max(int(header.get_data_offset()), 0), dtype)
    if len(voxels) < 1000:
        return False
    sample = voxels[:: max(len(voxels) // _SAMPLE, 1)]
    values = np.unique(sample[np.isfinite(sample)] if dtype.kind == "f" else sample)
    return 2 <= len(values) <= _FEW and bool((values == np.round(values.astype(float))).all())


def _stored(data: bytes, start: int, dtype: np.dtype[Any]) -> np.ndarray:
    """The voxels that a damaged file has."""
    whole = unpacked(data)
    return np.frombuffer(whole[start:], dtype, count=max(len(whole) - start, 0) // dtype.itemsize)
