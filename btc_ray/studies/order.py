"""The slices of a series in space: planes, stacks, order along the normal, gaps and duplicates.

A stack has one orientation, one matrix and one echo. Positions count from feet to head, right to left, front to back, however
the files are numbered or stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from btc_ray.images.formats.orientation import PLANES, directions_of

SAME_DIRECTION = 0.999  # cosine: 2.6°, what scanners vary within a stack
SAME_POSITION_MM = 0.01
_UNEVEN = 1.5  # times the usual step
_APART = 2.0  # times the thickness: 2D slices with a gap of their own thickness are usual


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Lists have an entry a frame, in the order of the frames that were arranged.

    Attributes:
        slice_index: place in the series, 0 … n-1: stack after stack, by position, then time, then InstanceNumber.
        stack: which stack; frames without geometry are one stack a matrix.
        position_mm: along the normal, from the patient's origin; None without geometry.
        duplicate_of: index of an earlier frame with the same SOPInstanceUID and frame number; whether their pixels are the same is
            not known here.
        slices: positions in all stacks; `times`: most frames at one position of a stack.
        gap: None where there is no geometry or a single slice.
    """

    slice_index: list[int]
    stack: list[int]
    position_mm: list[float | None]
    plane: list[str | None]
    oblique_deg: list[float | None]
    duplicate_of: list[int | None]
    stacks: int
    slices: int
    orientations: int
    times: int
    spacing_mm: float | None
    gap: bool | None


def normal_of(orientation: Sequence[float] | None) -> np.ndarray | None:
    """The unit normal (3,) of directions of columns and rows (6,), towards left, back or up; None where they span no plane."""
    found = directions_of(orientation)
    if found is None:
        return None
    _, _, normal = found
    return normal if normal[np.argmax(np.abs(normal))] > 0 else -normal


def plane_of(normal: np.ndarray | None) -> tuple[str | None, float | None]:
    """The plane that a normal is nearest to, and by how many degrees it is tilted against it."""
    if normal is None:
        return None, None
    axis = int(np.argmax(np.abs(normal)))
    return PLANES[axis], float(np.degrees(np.arccos(min(abs(normal[axis]), 1.0))))


def arrange(frames: Sequence[dict[str, Any]]) -> Arrangement:
    """The order of `frames`, which are rows of the index of one series."""
    normals = [normal_of(row.get("orientation")) for row in frames]
    groups = _same_directions(normals)
    positions = [
        None if normal is None or row.get("position") is None else float(groups.directions[group] @ np.asarray(row["position"]))
        for row, normal, group in zip(frames, normals, groups.of, strict=True)
    ]
    keys = [
        (group if position is not None else -1, *_matrix_and_echo(row))
        for row, group, position in zip(frames, groups.of, positions, strict=True)
    ]
    names = {key: number for number, key in enumerate(sorted(set(keys)))}
    stack = [names[key] for key in keys]
    order = sorted(range(len(frames)), key=lambda at: (stack[at], _place(positions[at]), *_tie(frames[at])))
    slice_index = [0] * len(frames)
    for place, at in enumerate(order):
        slice_index[at] = place
    planes = [
        plane_of(normal) if position is not None else (None, None) for normal, position in zip(normals, positions, strict=True)
    ]
    duplicates = _duplicates(frames)
    first = [at for at in order if duplicates[at] is None]
    slices, times, spacing, gap = _steps(first, stack, positions, frames)
    return Arrangement(
        slice_index=slice_index,
        stack=stack,
        position_mm=positions,
        plane=[plane for plane, _ in planes],
        oblique_deg=[angle for _, angle in planes],
        duplicate_of=duplicates,
        stacks=len(names),
        slices=slices,
        orientations=len({group for group, position in zip(groups.of, positions, strict=True) if position is not None}),
        times=times,
        spacing_mm=spacing,
        gap=gap,
    )


@dataclass(frozen=True, kw_only=True)
class _Directions:
    of: list[int]
    directions: list[np.ndarray]


def _same_directions(normals: Sequence[np.ndarray | None]) -> _Directions:
    directions: list[np.ndarray] = []
    of = []
    for normal in normals:
        if normal is None:
            of.append(-1)
            continue
        found = next((number for number, other in enumerate(directions) if abs(other @ normal) > SAME_DIRECTION), None)
        if found is None:
            found = len(directions)
            directions.append(normal)
        of.append(found)
    return _Directions(of=of, directions=directions)


def _steps(
    first: Sequence[int], stack: Sequence[int], positions: Sequence[float | None], frames: Sequence[dict[str, Any]]
) -> tuple[int, int, float | None, bool | None]:
    """Slices, most frames at one position, the usual step (mm), and whether slices are missing between others."""
    slices, times, steps, missing, counts = 0, 1, [], False, 0
    for number in sorted(set(stack)):
        members = [at for at in first if stack[at] == number]
        placed = [(positions[at], at) for at in members if positions[at] is not None]
        if not placed:
            slices += len(members)
            continue
        values = np.array([position for position, _ in placed], float)
        distinct = np.concatenate([[True], np.diff(values) > SAME_POSITION_MM])
        slices += int(distinct.sum())
        times = max(times, int(np.bincount(np.cumsum(distinct) - 1).max()))
        places = values[distinct]
        if len(places) > 1:
            between = np.diff(places)
            usual = float(np.median(between))
            steps.append(usual)
            counts += 1
            missing |= bool((between > _UNEVEN * usual).any()) or _apart(usual, frames[placed[0][1]])
    return slices, times, float(np.median(steps)) if steps else None, missing if counts else None


def _apart(step: float, row: dict[str, Any]) -> bool:
    """Whether even steps are wider than the file says slices lie apart: every second slice was left out, say."""
    said, thickness = row.get("spacing_between") or 0.0, row.get("thickness") or 0.0
    if said > 0.05:
        # From centre to centre by the standard; some write the empty space between two slices instead.
        return bool(step > _UNEVEN * said and step > 1.1 * (thickness + said))
    return bool(thickness > 0.05 and step > (_UNEVEN if row.get("acquisition") == "3d" else 1 + _APART) * thickness)


def _duplicates(frames: Sequence[dict[str, Any]]) -> list[int | None]:
    seen: dict[tuple[str, int], int] = {}
    found: list[int | None] = []
    for at, row in enumerate(frames):
        uid = row.get("sop_uid")
        found.append(seen.setdefault((uid, row["frame"]), at) if uid else None)
        if found[-1] == at:
            found[-1] = None
    return found


def _matrix_and_echo(row: dict[str, Any]) -> tuple[float, ...]:
    return row.get("rows") or 0, row.get("columns") or 0, round(row.get("te_ms") or 0.0, 1), row.get("echo") or 0


def _place(position: float | None) -> float:
    return 0.0 if position is None else round(position / SAME_POSITION_MM) * SAME_POSITION_MM


def _tie(row: dict[str, Any]) -> tuple[Any, ...]:
    return row.get("temporal_position") or 0, row.get("time") or "", row.get("instance_number") or 0, row["frame"], row["file_id"]
