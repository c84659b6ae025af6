"""DICOM, by content whatever the file is called: a header is read once a file, compressed frames go to child processes."""

from dataclasses import dataclass

from btc_ray.images.errors import Unreadable, Unsupported, cut_short
from btc_ray.images.formats import frame_pool
from btc_ray.images.formats.dicom_elements import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT
from btc_ray.images.formats.dicom_frames import Fragments, compressed_frame, fragments_of
from btc_ray.images.formats.dicom_header import DicomHeader, is_dicom, read_header
from btc_ray.images.formats.dicom_pixels import native, picture
from btc_ray.images.formats.format import Format
from btc_ray.images.kept import Kept
from btc_ray.images.limits import MAX_PIXELS, check_memory, check_size
from btc_ray.images.picture import Picture

__all__ = ["DICOM", "DicomImage", "is_dicom", "open_dicom"]

_NATIVE = {IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED}


@dataclass(frozen=True, kw_only=True, eq=False)
class DicomImage:
    """A file whose header was read; `decode` gives one frame at a time and is thread-safe."""

    header: DicomHeader
    fragments: Fragments | None

    @property
    def frames(self) -> int:
        return self.header.frames

    def decode(self, frame: int, *, max_pixels: int = MAX_PIXELS) -> Picture:
        """One frame, counted from 0.

        Raises:
            Unreadable: its bytes are damaged or not all there.
            Unsupported: a mosaic, a palette, more than `max_pixels` pixels, or a syntax for which no decoder is installed.
        """
        header = self.header
        if not 0 <= frame < header.frames:
            raise Unreadable(f"there is no frame {frame + 1}: the file holds {header.frames}")
        if header.mosaic:
            raise Unsupported("a mosaic: several slices in one picture; export the series as single slices")
        if header.photometric == "PALETTE COLOR":
            raise Unsupported("a picture of a colour palette is not taken; save it as grey")
        check_size(header.columns, header.rows, max_pixels)
        size = header.rows * header.columns * header.samples * header.allocated // 8
        check_memory(2 * size, "this frame", max_pixels)
        if self.fragments is None:
            return picture(native(self._bytes(frame, size), header), header, frame, max_pixels)
        content = compressed_frame(header.data, self.fragments, frame, header.frames)
        task = frame_pool.Task(
            syntax=header.syntax, rows=header.rows, columns=header.columns, samples=header.samples, allocated=header.allocated,
            stored=header.stored, signed=header.signed, photometric=header.photometric, planar=header.planar,
        )  # fmt: skip
        return picture(frame_pool.decode(content, task), header, frame, max_pixels)

    def _bytes(self, frame: int, size: int) -> memoryview:
        header = self.header
        assert header.length is not None
        if size * header.frames > header.length:
            raise Unreadable(
                "the pixel data are shorter than Rows, Columns, SamplesPerPixel and NumberOfFrames say; export it again"
            )
        start = header.start + frame * size
        last = frame == header.frames - 1
        if start + size > len(header.data) or (last and header.start + header.length > len(header.data)):
            raise cut_short("within its pixels")
        return memoryview(header.data)[start : start + size]


def open_dicom(data: bytes) -> DicomImage:
    """Read the header of a whole file, packed by gzip perhaps.

    Raises:
        Unreadable: it is damaged, cut short within its header, or claims what it does not have.
        Unsupported: an object without a picture, or a transfer syntax that is not taken.
    """
    header = read_header(data)
    if header.length is not None and header.syntax in _NATIVE:
        size = header.rows * header.columns * header.samples * header.allocated // 8
        if size * header.frames > header.length:
            raise Unreadable(
                "the pixel data are shorter than Rows, Columns, SamplesPerPixel and NumberOfFrames say; export it again"
            )
        return DicomImage(header=header, fragments=None)
    if header.syntax in _NATIVE:
        raise Unreadable("the pixels are in fragments, and the transfer syntax says that they are uncompressed; export it again")
    if header.syntax not in frame_pool.SYNTAXES:
        name = frame_pool.syntax_name(header.syntax)
        raise Unsupported(f"the transfer syntax ({name}) is not taken; export it uncompressed")
    if header.length is not None:
        raise Unreadable("the transfer syntax says that pixels are compressed, and they are not; export it again")
    return DicomImage(header=header, fragments=fragments_of(header.data, header.start))


_opened: Kept[bytes, DicomImage] = Kept(size=lambda image: len(image.header.data) if image.frames > 1 else None)


def _image(data: bytes) -> DicomImage:
    return _opened.get(data, lambda: open_dicom(data))


def _frames(data: bytes) -> int:
    return _image(data).frames


def _decode(data: bytes, frame: int, *, max_pixels: int, algorithm: int) -> Picture:
    return _image(data).decode(frame, max_pixels=max_pixels)


def _mode(data: bytes) -> str:
    header = _image(data).header
    return "RGB" if header.samples == 3 else f"{'F' if header.float_type else 'I'};{header.stored}"


DICOM = Format(
    name="DICOM", suffixes=(".dcm", ".dicom", ".ima", ".dic", ".mag", ".mrdc"), sniff=is_dicom, frames=_frames, decode=_decode, mode=_mode
)  # fmt: skip
