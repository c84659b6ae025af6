"""NIfTI-1 and -2, packed by gzip perhaps: slices along the coarsest axis, upright as DICOM's are; a slice is a frame.

Volumes of a header and a file of pixels (.hdr, .img) are opened with both, `open_nifti`; one of the two alone is no picture.
"""

import io
import zlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from btc_ray.images.errors import Unreadable, Unsupported, cut_short
from btc_ray.images.formats.format import Format
from btc_ray.images.formats.orientation import Turn, squared, turn_of, turned
from btc_ray.images.kept import Kept
from btc_ray.images.limits import MAX_PIXELS, check_size
from btc_ray.images.picture import Picture
from btc_ray.images.window import window

MOST_SLICES = 8192
MOST_BYTES = 2**31
"""Of the voxels of a file, unpacked."""
_COARSER = 1.2  # times the finest spacing
_EMPTY = 0.02  # share of voxels above air, below which a slice shows nothing
_AIR = 0.05  # of the range of a volume's voxels: what lies below is air
_SAMPLE = 200_000  # voxels that this range is taken from
_SINGLE, _PAIR = (b"n+1\0", b"n+2\0"), (b"ni1\0", b"ni2\0")


@dataclass(frozen=True, kw_only=True, eq=False)
class NiftiImage:
    """A volume (I, J, K) in memory; slices are counted along `axis`; number = voxel × `slope` + `intercept`."""

    voxels: np.ndarray
    axis: int
    row_spacing: float
    column_spacing: float
    turn: Turn | None
    slope: float
    intercept: float

    @property
    def frames(self) -> int:
        return int(self.voxels.shape[self.axis])

    def stored(self, frame: int) -> np.ndarray:
        """One slice as stored (H, W): a row for each place on the later of the two other axes."""
        return np.moveaxis(self.voxels, self.axis, 0)[frame].T

    def decode(self, frame: int, *, max_pixels: int = MAX_PIXELS) -> Picture:
        """One slice, counted from 0 along its axis; NaN is black."""
        if not 0 <= frame < self.frames:
            raise Unreadable(f"there is no slice {frame + 1}: the volume holds {self.frames}")
        values = self.stored(frame)
        check_size(values.shape[1], values.shape[0], max_pixels)
        if self.slope < 0:
            values = -values.astype(np.float64)
        try:
            grey, low, high = window(np.ascontiguousarray(values))
        except ValueError as error:
            raise Unreadable("every voxel of the slice is NaN or infinite") from error
        slope, down, across = abs(self.slope), self.row_spacing, self.column_spacing
        if self.turn is not None:
            grey = turned(grey, self.turn)
            down, across = (across, down) if self.turn.transpose else (down, across)
        grey = squared(grey, down, across, max_pixels)
        return Picture(
            grey=grey, width=grey.shape[1], height=grey.shape[0], window_low=low * slope + self.intercept,
            window_high=high * slope + self.intercept, plane=self.turn.plane if self.turn else None,
            oblique_deg=self.turn.oblique_deg if self.turn else None, geometry="affine" if self.turn else "none",
        )  # fmt: skip

    def empty(self) -> np.ndarray:
        """Which slices show nothing, bool (frames,): fewer than 2 % of their voxels lie above the air of the volume. None of a volume
        whose voxels are all alike, of which nobody can tell what is air."""
        none = np.zeros(self.frames, bool)
        sign = 1 if self.slope >= 0 else -1
        sample = self.voxels.reshape(-1, order="F")[:: max(1, self.voxels.size // _SAMPLE)]
        sample = sample[np.isfinite(sample)].astype(np.float64) * sign
        if not sample.size:
            return none
        low, high = np.percentile(sample, (0.5, 99.5))
        if low == high:
            low, high = sample.min(), sample.max()
        if low == high:
            return none
        air = _whole(sign * (low + _AIR * (high - low)), self.voxels.dtype, up=sign < 0)
        above = np.zeros(self.frames, np.int64)
        for place in range(self.voxels.shape[2]):  # of an array in Fortran's order: what lies together is looked at together
            plane = self.voxels[:, :, place]
            shown = plane > air if sign > 0 else plane < air
            if self.axis == 2:
                above[place] = np.count_nonzero(shown)
            else:
                above += np.count_nonzero(shown, axis=1 - self.axis)
        found: np.ndarray = above < _EMPTY * (self.voxels.size // self.frames)
        return found


def _whole(value: float, dtype: np.dtype[Any], *, up: bool) -> float | int:
    """A threshold for voxels of `dtype`: a whole number for whole numbers, which are compared without being converted."""
    if dtype.kind == "f":
        return value
    return int(np.clip(np.ceil(value) if up else np.floor(value), np.iinfo(dtype).min, np.iinfo(dtype).max))


def is_nifti(head: bytes) -> bool:
    """Whether a file that begins so (`HEAD` bytes or the whole) is NIfTI, within gzip too."""
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 544)
        except zlib.error:
            return False
    size = int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")
    return head[344:348] in (_SINGLE[0], _PAIR[0]) or (540 in size and head[4:8] in (_SINGLE[1], _PAIR[1]))


def open_nifti(data: bytes, image: bytes | None = None) -> NiftiImage:
    """Open a whole file, or a header `data` with the `image` file beside it. Of several volumes the first is taken.

    Raises:
        Unreadable: damaged, cut short, empty, or larger than any volume.
        Unsupported: colours, complex numbers, or one file of a pair alone.
    """
    head = _unpacked(data, 1024)
    try:
        header, affine = _header(head)
    except Exception as error:  # nibabel raises whatever a damaged header leads it to
        raise Unreadable("the NIfTI header is damaged; copy it again from its source") from error
    shape = _shape(header)
    dtype = header.get_data_dtype()
    if dtype.names or dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise Unsupported("NIfTI voxels that are colours or complex numbers are not taken; save them as numbers")
    single = bytes(header["magic"])[:3] in (b"n+1", b"n+2")
    if not single and image is None:
        raise Unsupported("the header of a NIfTI pair without its .img; save both as one .nii.gz")
    count = shape[0] * shape[1] * shape[2]
    if count * dtype.itemsize > MOST_BYTES:
        raise Unreadable(f"the NIfTI header claims {count:,} voxels: more than any volume has; export it again")
    start = max(int(header["vox_offset"]), 0 if image is not None else 348)
    whole = _unpacked(data if single else image or b"", start + count * dtype.itemsize)
    if len(whole) < start + count * dtype.itemsize:
        raise cut_short("within its voxels")
    voxels = np.frombuffer(whole, dtype, count, start).reshape(shape, order="F")
    if not dtype.isnative:
        voxels = voxels.astype(dtype.newbyteorder("="))
    slope, intercept = (float(value) for value in (header["scl_slope"], header["scl_inter"]))
    if not np.isfinite(slope) or slope == 0 or not np.isfinite(intercept):
        slope, intercept = 1.0, 0.0
    return _image(header, affine, voxels, slope, intercept)


def _header(head: bytes) -> tuple[Any, np.ndarray]:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    kind = Nifti2Header if head[4:8] in (_SINGLE[1], _PAIR[1]) else Nifti1Header
    header = kind.from_fileobj(io.BytesIO(head), check=False)
    if int(header["sizeof_hdr"]) not in (348, 540):
        raise ValueError("sizeof_hdr")
    return header, np.asarray(header.get_best_affine(), float)


def _shape(header: Any) -> tuple[int, int, int]:
    try:
        sizes = tuple(int(size) for size in header.get_data_shape())
    except Exception as error:
        raise Unreadable("the NIfTI header is damaged; copy it again from its source") from error
    if not 1 <= len(sizes) <= 7 or min(sizes) < 1:
        raise Unreadable("the dimensions of the NIfTI header are not positive; export it again")
    first, second, third = (*sizes, 1, 1)[:3]
    if max(first, second, third) > 32_766:
        raise Unreadable("the NIfTI header claims more voxels than any volume has; export it again")
    return first, second, third


def _image(header: Any, affine: np.ndarray, voxels: np.ndarray, slope: float, intercept: float) -> NiftiImage:
    zooms = tuple(abs(float(zoom)) or 1.0 for zoom in (*header.get_zooms()[:3], 1.0, 1.0)[:3])
    zooms = tuple(zoom if np.isfinite(zoom) else 1.0 for zoom in zooms)
    known = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    columns = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]  # NIfTI counts to the right and to the front, DICOM to left and back
    usable = known and np.isfinite(columns).all() and abs(np.linalg.det(columns)) > 1e-6
    axis = slice_axis(voxels.shape, zooms, columns if usable else np.eye(3))
    across, down = (other for other in range(3) if other != axis)
    turn = None
    if usable:
        directions = columns / np.linalg.norm(columns, axis=0)
        turn = turn_of([*directions[:, across].tolist(), *directions[:, down].tolist()])
    if voxels.shape[axis] > MOST_SLICES:
        raise Unreadable("the NIfTI header claims more slices than any volume has; export it again")
    return NiftiImage(
        voxels=voxels,
        axis=axis,
        row_spacing=zooms[down],
        column_spacing=zooms[across],
        turn=turn,
        slope=slope,
        intercept=intercept,
    )


def slice_axis(shape: tuple[int, ...], zooms: tuple[float, ...], columns: np.ndarray) -> int:
    """The array axis that slices are counted along: of one slice, that; the coarsest where it is more than 1.2 times the finest; else the
    one that lies most along the body. `columns` (3, 3): where each array axis leads; the identity where that is not known."""
    if min(shape) == 1:
        return int(np.argmin(shape))
    if max(zooms) > _COARSER * min(zooms):
        return int(np.argmax(zooms))
    along = np.abs(columns / np.linalg.norm(columns, axis=0))[2]
    return int(np.argmax(along))


def _unpacked(data: bytes, most: int) -> bytes:
    """The first `most` bytes of a file, unpacked where it is gzip, whatever it is called; fewer where it is cut short."""
    if data[:2] != b"\x1f\x8b":
        return data
    gzip = _inflate()
    try:
        return bytes(gzip.decompressobj(wbits=31).decompress(data, most))
    except Exception as error:  # zlib.error or isal's own
        raise Unreadable("the gzip file is damaged; copy it again from its source") from error


def _inflate() -> ModuleType:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    found: ModuleType = isal_zlib
    return found


_opened: Kept[bytes, NiftiImage] = Kept(size=lambda image: image.voxels.nbytes)


def _volume(data: bytes) -> NiftiImage:
    return _opened.get(data, lambda: open_nifti(data))


def _frames(data: bytes) -> int:
    return _volume(data).frames


def _decode(data: bytes, frame: int, *, max_pixels: int, algorithm: int) -> Picture:
    return _volume(data).decode(frame, max_pixels=max_pixels)


NIFTI = Format(name="NIfTI", suffixes=(".nii", ".nii.gz", ".hdr"), sniff=is_nifti, frames=_frames, decode=_decode)
