"""Masks that stand beside images, NIfTI label maps and DICOM SEG → how much of a lesion each slice of the images shows, in mm².

A NIfTI mask belongs to the images of its folder that have its grid; a SEG to the instances that its frames name.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np

from btc_ray.archive.entries import Entry, ReadError
from btc_ray.archive.reader import ByteReader
from btc_ray.images.errors import Unreadable, Unsupported
from btc_ray.images.formats.nifti import open_nifti
from btc_ray.progress import say
from btc_ray.studies.header import name_words, unpacked
from btc_ray.studies.overview import Studies

LEAST_AREA = 50.0  # mm²: less is the edge of a lesion, or a slip of the pen
MOST_VOLUME = 500e3  # mm³: no tumour is larger, and every brain is; the mask is one of anatomy
_SEG = "1.2.840.10008.5.1.4.1.1.66.4"
_LESION = re.compile(r"(?<![a-z])(seg|dseg|lesion|tumou?r|mask|roi|label)s?(?![a-z])")
_ANATOMY = re.compile(r"brain|skull|head|aseg|aparc|tissue|atlas|bet(?![a-z])|wm|gm|csf")
_NORMAL = frozenset({"123037004", "T-D0050", "T-D000A", "85756007"})  # SegmentedPropertyCategory: structures of anatomy, tissues
_SAME_MM = 0.1

_READ = [
    "file_id", "frame", "uri", "kind", "problem", "sop_class", "sop_uid", "series_uid", "rows", "columns", "row_spacing",
    "column_spacing", "thickness", "position",
]  # of the index  # fmt: skip
Frame = tuple[int, int]  # file_id and frame, as the index has them


def lesion_areas(studies: Studies, listed: Sequence[Entry], reader: ByteReader) -> dict[Frame, float]:
    """The area that masks cover in each slice that has one, mm²; of several masks of one slice the largest counts.

    `listed` are the files by `file_id`. Masks that cannot be read, or are of anatomy by their name or volume, are counted aloud.
    """
    if studies.index is None or studies.grouped is None:
        return {}
    rows = studies.index.select(_READ).to_pylist()
    areas: dict[Frame, float] = {}
    used = anatomy = broken = 0
    for found in (_nifti_masks(studies, rows, listed, reader), _segs(rows, listed, reader)):
        for one in found:
            used, anatomy, broken = used + bool(one), anatomy + (one == {}), broken + (one is None)
            for frame, area in (one or {}).items():
                areas[frame] = max(areas.get(frame, 0.0), area)
    shown = sum(area >= LEAST_AREA for area in areas.values())
    say(f"Masks beside the images: {used:,}; slices in which they have {LEAST_AREA:g} mm² or more: {shown:,}.")
    if anatomy:
        say(f"Masks that show no lesion, but anatomy by their name or volume, or nothing: {anatomy:,}.")
    if broken:
        say(f"Warning: masks that cannot be read: {broken:,}.")
    return areas


def _nifti_masks(
    studies: Studies, rows: Sequence[dict[str, Any]], listed: Sequence[Entry], reader: ByteReader
) -> Iterator[dict[Frame, float] | None]:
    assert studies.grouped is not None
    volumes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["kind"] == "nifti" and row["problem"] is None:
            volumes[row["file_id"]].append(row)
    masks = {
        number
        for number, frames in volumes.items()
        if studies.grouped.selected[frames[0]["series_uid"]].reason == "mask or label map"
    }
    for number in sorted(masks):
        frames = volumes[number]
        words = name_words(frames[0]["uri"])
        if not _LESION.search(words) or _ANATOMY.search(words):
            yield {}
            continue
        folder = frames[0]["uri"].rpartition("/")[0]
        images = [
            other
            for other in volumes
            if other not in masks and volumes[other][0]["uri"].rpartition("/")[0] == folder and _same_grid(volumes[other], frames)
        ]
        if images:
            yield _areas_of_volume(listed[number], images, frames[0], reader)


def _same_grid(one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> bool:
    if len(one) != len(other) or any(one[0][name] != other[0][name] for name in ("rows", "columns")):
        return False
    places = [(first["position"], second["position"]) for first, second in ((one[0], other[0]), (one[-1], other[-1]))]
    return all(
        (first is None and second is None)
        or (first is not None and second is not None and np.allclose(first, second, atol=_SAME_MM))
        for first, second in places
    )


def _areas_of_volume(
    entry: Entry, images: Sequence[int], row: Mapping[str, Any], reader: ByteReader
) -> dict[Frame, float] | None:
    try:
        volume = open_nifti(reader.read(_as_row(entry)))
    except (ReadError, Unreadable, Unsupported):
        return None
    pixel = row["row_spacing"] * row["column_spacing"]
    areas = [float(np.count_nonzero(np.nan_to_num(volume.stored(frame)))) * pixel for frame in range(volume.frames)]
    if sum(areas) * row["thickness"] > MOST_VOLUME:
        return {}
    return {(image, frame): area for image in images for frame, area in enumerate(areas)}


def _segs(rows: Sequence[dict[str, Any]], listed: Sequence[Entry], reader: ByteReader) -> Iterator[dict[Frame, float] | None]:
    segs = [row["file_id"] for row in rows if row["sop_class"] == _SEG]
    if not segs:
        return
    places: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["sop_uid"] and row["kind"] == "dicom":
            places[row["sop_uid"]].append(row)
    for number in segs:
        yield _areas_of_seg(listed[number], places, reader)


def _areas_of_seg(entry: Entry, places: Mapping[str, list[dict[str, Any]]], reader: ByteReader) -> dict[Frame, float] | None:
    """The union of the segments of each slice; structures of normal anatomy do not count."""
    import pydicom

    try:
        dataset = pydicom.dcmread(BytesIO(unpacked(reader.read(_as_row(entry)))), force=True)
        pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        lesions = {int(one.SegmentNumber) for one in dataset.SegmentSequence if not _is_anatomy(one)}
        covered: dict[Frame, np.ndarray] = {}
        for place, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            if int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber) not in lesions:
                continue
            for frame in _frames_of(group, places):
                covered[frame] = covered.get(frame, np.zeros(pixels[place].shape, bool)) | (pixels[place] > 0)
        spacing = {frame: _pixel(dataset, frame, places) for frame in covered}
    except Exception:  # noqa: BLE001 — a damaged mask is counted, whatever pydicom raises
        return None
    return {frame: float(mask.sum()) * spacing[frame] for frame, mask in covered.items()}


def _is_anatomy(segment: Any) -> bool:
    category = segment.get("SegmentedPropertyCategoryCodeSequence") or ()
    return any(one.get("CodeValue") in _NORMAL for one in category)


def _frames_of(group: Any, places: Mapping[str, list[dict[str, Any]]]) -> Iterator[Frame]:
    """The slices that a frame of a SEG was drawn on, by the instances that it names."""
    for derivation in group.get("DerivationImageSequence") or ():
        for source in derivation.get("SourceImageSequence") or ():
            wanted = source.get("ReferencedFrameNumber")
            numbers = None if wanted is None else {int(one) - 1 for one in np.atleast_1d(wanted)}
            for row in places.get(str(source.ReferencedSOPInstanceUID), ()):
                if numbers is None or row["frame"] in numbers:
                    yield row["file_id"], row["frame"]


def _pixel(dataset: Any, frame: Frame, places: Mapping[str, list[dict[str, Any]]]) -> float:
    """mm² of a pixel of a SEG: its own, else that of the image it was drawn on."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    measures = shared.get("PixelMeasuresSequence") or ()
    if measures and (spacing := measures[0].get("PixelSpacing")):
        return float(spacing[0]) * float(spacing[1])
    row = next(row for rows in places.values() for row in rows if (row["file_id"], row["frame"]) == frame)
    return float((row["row_spacing"] or 1.0) * (row["column_spacing"] or 1.0))


def _as_row(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in ("uri", "size", "container", "offset", "packed_size", "packing")}
