"""Where the bytes of each frame lie in a DICOM file's pixel data: by arithmetic, or fragments joined where they are compressed.

Only whole frames are given: one whose bytes are not all there is `Unreadable`, its neighbours are not.
"""

import struct
from dataclasses import dataclass

from btc_ray.images.errors import Unreadable, cut_short

_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
_MOST_FRAGMENTS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Fragments:
    """Start and end of each fragment in the file; `offsets` of the frames' first fragments; `cut`: the file ends before the end mark."""

    spans: tuple[tuple[int, int], ...]
    offsets: tuple[int, ...]
    start: int
    cut: bool


def fragments_of(data: bytes, at: int) -> Fragments:
    """Walk the items of compressed pixel data from `at`, where their first item, the table of offsets, begins."""
    spans: list[tuple[int, int]] = []
    offsets: tuple[int, ...] | None = None
    start = at
    cut = True
    while at + 8 <= len(data) and len(spans) < _MOST_FRAGMENTS:
        group, element, length = struct.unpack_from("<HHI", data, at)
        tag = group << 16 | element
        if tag == _END:
            cut = False
            break
        if tag != _ITEM or length == 0xFFFFFFFF:
            raise Unreadable("the compressed pixel data are damaged between their fragments; copy it again from its source")
        at += 8
        if at + length > len(data):
            break
        if offsets is None:
            offsets = struct.unpack_from(f"<{length // 4}I", data, at)
            start = at + length
        else:
            spans.append((at, at + length))
        at += length
    return Fragments(spans=tuple(spans), offsets=offsets or (), start=start, cut=cut)


def compressed_frame(data: bytes, found: Fragments, frame: int, frames: int) -> bytes:
    """The bytes of one frame, its fragments joined.

    Raises:
        Unreadable: it is not wholly there, or fragments and frames do not match.
    """
    groups = _groups(data, found, frames)
    if frame >= len(groups):
        if found.cut:
            raise cut_short("within the compressed pixel data")
        raise Unreadable(f"frame {frame + 1} of {frames} is missing from the compressed pixel data; export it again")
    joined = b"".join(data[start:end] for start, end in groups[frame])
    last = found.cut and frame == len(groups) - 1
    if last and not joined.rstrip(b"\0").endswith(_END_OF_IMAGE):  # the next fragment may have been its end
        raise cut_short("within the compressed pixel data")
    if not joined:
        raise Unreadable(f"frame {frame + 1} holds no bytes; export it again")
    return joined


def _groups(data: bytes, found: Fragments, frames: int) -> list[list[tuple[int, int]]]:
    spans = list(found.spans)
    if frames == 1:
        return [spans] if spans else []
    if len(spans) == frames and not found.cut:
        return [[span] for span in spans]
    if len(found.offsets) == frames:
        starts = [found.start + offset for offset in found.offsets]
        groups: list[list[tuple[int, int]]] = [[] for _ in starts]
        at = 0
        for start, end in spans:
            while at + 1 < frames and start - 8 >= starts[at + 1]:
                at += 1
            groups[at].append((start, end))
        while groups and not groups[-1]:
            groups.pop()
        return groups
    if len(spans) <= frames and found.cut:
        return [[span] for span in spans]
    groups, current = [], []
    for start, end in spans:  # a frame ends where a fragment does that ends with the codec's own mark
        current.append((start, end))
        if data[max(start, end - 4) : end].rstrip(b"\0").endswith(_END_OF_IMAGE):
            groups.append(current)
            current = []
    return [*groups, current] if current else groups
