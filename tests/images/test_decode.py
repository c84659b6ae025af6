"""Every kind of file becomes the right grey picture, and every broken one a sentence."""

import io
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from PIL import Image

from btc_ray.images.decode import ImageError, Unreadable, Unsupported, decode
from btc_ray.images.picture import ALGORITHM

ROWS, COLUMNS = 97, 83


def picture() -> np.ndarray:
    """A smooth picture without symmetry, uint8 (97, 83), using the whole range."""
    y, x = np.mgrid[:ROWS, :COLUMNS]
    waves = np.sin(y / 9 + 0.3) * np.cos(x / 7) + (x + 2 * y) / 300
    return ((waves - waves.min()) / np.ptp(waves) * 255).round().astype(np.uint8)


GREY = picture()
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], -1)
LUMA = (COLOUR @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, kind, **options)
    return stream.getvalue()


def as_mode(mode: str) -> Image.Image:
    return Image.fromarray(COLOUR if mode in ("RGB", "CMYK", "RGBA") else GREY).convert(mode)


def opencv_png(values: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", values)[1])


def tiff(values: np.ndarray, *, order: Literal["<", ">"] = "<", photometric: int | None = None, orientation: int = 1) -> bytes:
    """An uncompressed TIFF of any number type; Pillow writes few of them."""
    height, width = values.shape[:2]
    samples = 1 if values.ndim == 2 else values.shape[2]
    body = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if photometric is None:
        photometric = 2 if samples >= 3 else 1
    bits, number = values.dtype.itemsize * 8, {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    lists = struct.pack(f"{order}{samples}H{samples}H", *[bits] * samples, *[number] * samples)
    at = 8 + len(body)
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, samples, at if samples > 2 else bits), (259, 3, 1, 1),
        (262, 3, 1, photometric), (273, 4, 1, 8), (274, 3, 1, orientation), (277, 3, 1, samples), (278, 4, 1, height),
        (279, 4, 1, len(body)), (339, 3, samples, at + 2 * samples if samples > 2 else number),
    ]  # fmt: skip
    directory = struct.pack(order + "H", len(tags))
    for tag, kind, count, value in tags:
        inline = kind == 3 and count == 1
        directory += struct.pack(order + ("HHIHH" if inline else "HHII"), tag, kind, count, value, *([0] if inline else []))
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "I", at + len(lists)) + body + lists + directory + struct.pack(order + "I", 0)


def differs_by(data: bytes, expected: np.ndarray, algorithm: int = ALGORITHM) -> int:
    found = decode(data, algorithm=algorithm)
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert found.flags.c_contiguous
    return int(np.abs(found.astype(int) - expected).max())


FILES = {
    "grey jpeg": encoded(GREY, "JPEG"),
    "colour jpeg": encoded(COLOUR, "JPEG"),
    "progressive jpeg": encoded(COLOUR, "JPEG", progressive=True),
    "jpeg with restart marks": encoded(COLOUR, "JPEG", restart_marker_rows=1),
    "cmyk jpeg": encoded(as_mode("CMYK"), "JPEG"),
    "grey png": encoded(GREY, "PNG"),
    "palette png": encoded(Image.fromarray(COLOUR).quantize(16), "PNG"),
    "1-bit png": encoded(as_mode("1"), "PNG"),
    "16-bit colour png": opencv_png(COLOUR.astype(np.uint16) * 16),
    "grey bmp": encoded(GREY, "BMP"),
    "colour bmp": encoded(COLOUR, "BMP"),
    "tiff": encoded(GREY, "TIFF"),
    "lzw tiff": encoded(COLOUR, "TIFF", compression="tiff_lzw"),
    "deflate tiff": encoded(GREY, "TIFF", compression="tiff_adobe_deflate"),
    "jpeg tiff": encoded(COLOUR, "TIFF", compression="jpeg"),
    "16-bit tiff": tiff(GREY.astype(np.uint16)),
    "webp": encoded(COLOUR, "WEBP"),
    "lossless webp": encoded(COLOUR, "WEBP", lossless=True),
}


@pytest.mark.parametrize(
    ("data", "expected", "tolerance"),
    [
        pytest.param(encoded(GREY, "JPEG", quality=95), GREY, 12, id="grey jpeg"),
        pytest.param(encoded(COLOUR, "JPEG", quality=95, subsampling=0), LUMA, 12, id="colour jpeg"),
        pytest.param(encoded(COLOUR, "JPEG", quality=95, progressive=True), LUMA, 12, id="progressive jpeg"),
        pytest.param(encoded(as_mode("CMYK"), "JPEG", quality=95), LUMA, 20, id="cmyk jpeg with Adobe's inversion"),
        pytest.param(encoded(GREY, "PNG"), GREY, 0, id="grey png"),
        pytest.param(encoded(COLOUR, "PNG"), LUMA, 1, id="colour png"),
        pytest.param(encoded(as_mode("RGBA"), "PNG"), LUMA, 1, id="png with alpha"),
        pytest.param(encoded(as_mode("LA"), "PNG"), GREY, 0, id="grey png with alpha"),
        pytest.param(encoded(as_mode("1"), "PNG"), np.asarray(as_mode("1")) * np.uint8(255), 0, id="1-bit png"),
        pytest.param(encoded(as_mode("P"), "PNG"), GREY, 0, id="palette png"),
        pytest.param(encoded(as_mode("P"), "PNG", transparency=3), GREY, 0, id="palette png with transparency"),
        pytest.param(encoded(GREY, "BMP"), GREY, 0, id="grey bmp"),
        pytest.param(encoded(as_mode("1"), "BMP"), np.asarray(as_mode("1")) * np.uint8(255), 0, id="1-bit bmp"),
        pytest.param(encoded(COLOUR, "BMP"), LUMA, 1, id="colour bmp"),
        pytest.param(encoded(COLOUR, "TIFF", compression="tiff_lzw"), LUMA, 1, id="colour lzw tiff"),
        pytest.param(encoded(as_mode("CMYK"), "TIFF"), LUMA, 2, id="cmyk tiff"),
        pytest.param(tiff(255 - GREY, photometric=0), GREY, 0, id="inverted tiff"),
        pytest.param(encoded(COLOUR, "WEBP", lossless=True), LUMA, 1, id="lossless webp"),
        pytest.param(encoded(as_mode("RGBA"), "WEBP", lossless=True), LUMA, 1, id="webp with alpha"),
    ],
)
def test_eight_bit_files_keep_their_values(data: bytes, expected: np.ndarray, tolerance: int) -> None:
    assert differs_by(data, expected) <= tolerance


def stretched(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return ((values - low) / (high - low) * 255).round().astype(np.uint8)


ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")
TWELVE = GREY.astype(np.uint16) * 4  # 0 … 1020: the low end of 16 bits, as scanners export
LUMA_16 = stretched(COLOUR.astype(float) @ np.array([0.299, 0.587, 0.114]))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(opencv_png(TWELVE), GREY, id="16-bit grey png"),
        pytest.param(opencv_png(COLOUR[..., ::-1].astype(np.uint16) * 4), LUMA_16, id="16-bit colour png"),
        *(
            pytest.param(tiff(TWELVE.astype(kind), order=order), GREY, id=f"{kind} tiff {order}")
            for kind in ("uint16", "int16", "uint32", "int32", "float32", "float64")
            for order in ORDERS
        ),
        *(
            pytest.param(tiff(TWELVE.astype(kind), order=order, photometric=0), 255 - GREY, id=f"{kind} inverted {order}")
            for kind in ("uint16", "uint32", "float32")
            for order in ORDERS
        ),
        pytest.param(tiff((GREY.astype(int) - 128).astype(np.int8)), GREY, id="int8 tiff"),
        pytest.param(tiff((TWELVE.astype(int) - 500).astype(np.int16)), GREY, id="signed tiff"),
        pytest.param(tiff(TWELVE.astype(np.uint32) + 2**31 - 500), GREY, id="unsigned 32-bit tiff around the sign bit"),
        pytest.param(tiff((GREY.astype(np.float64) - 128) * 1.3e306), GREY, id="float64 tiff of the whole range"),
        pytest.param(tiff(COLOUR.astype(np.uint16) * 4), LUMA_16, id="16-bit colour tiff"),
        pytest.param(tiff(COLOUR.astype(np.float32), order=">"), LUMA_16, id="float colour tiff"),
        pytest.param(encoded(Image.fromarray(TWELVE), "TIFF", compression="tiff_lzw"), GREY, id="16-bit lzw tiff"),
    ],
)
def test_deeper_files_are_stretched_over_their_own_range(data: bytes, expected: np.ndarray) -> None:
    for algorithm in (1, 2):
        assert differs_by(data, expected, algorithm) <= 1
    low, high = np.percentile(expected, (0.5, 99.5))
    narrower = ((expected - low) / (high - low) * 255).clip(0, 255)
    assert differs_by(data, narrower) <= 3, "the percentiles of 256 levels, not of the numbers"


def test_sixteen_bit_grey_png_with_alpha_keeps_its_depth() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pairs = np.stack([TWELVE, np.full_like(TWELVE, 65535)], -1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pairs)
    header = struct.pack(">IIBBBBB", COLUMNS, ROWS, 16, 4, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert differs_by(data, GREY, 2) <= 1


def test_nan_and_infinity_become_black_or_white_without_changing_the_rest() -> None:
    values = GREY.astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    expected = GREY.copy()
    expected[0, :3] = 0, 255, 0
    assert differs_by(tiff(values), expected, 2) <= 1
    found = decode(tiff(values))
    assert found[0, :3].tolist() == [0, 255, 0]
    assert np.array_equal(found[1:], decode(tiff(GREY.astype(np.float32)))[1:])
    with pytest.raises(Unreadable, match="every pixel is NaN"):
        decode(tiff(np.full((4, 4), np.nan, np.float32)))


def test_a_constant_deep_picture_is_black() -> None:
    assert not decode(tiff(np.full((5, 6), 700, np.uint16))).any()


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
    5: np.transpose, 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90,
}  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "16-bit PNG", "16-bit TIFF", "16-bit colour TIFF"])
def test_orientation_is_followed(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"exif": exif}
    if kind == "JPEG":
        data = encoded(GREY, "JPEG", quality=95, **options)
    elif kind == "WEBP":
        data = encoded(GREY, "WEBP", lossless=True, **options)
    elif kind == "PNG":
        data = encoded(GREY, "PNG", **options)
    elif kind == "16-bit PNG":
        data = encoded(Image.fromarray(TWELVE), "PNG", **options)
    elif kind == "TIFF":
        data = tiff(GREY, orientation=orientation)
    elif kind == "16-bit TIFF":
        data = tiff(TWELVE, orientation=orientation)
    else:
        data = tiff(np.stack([TWELVE] * 3, -1), orientation=orientation)
    assert differs_by(data, UPRIGHT[orientation](GREY), 2) <= (12 if kind == "JPEG" else 1)
    assert np.array_equal(decode(data).shape, UPRIGHT[orientation](GREY).shape)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_one_pixel_is_a_picture(kind: str) -> None:
    assert differs_by(encoded(np.full((1, 1), 77, np.uint8), kind), np.full((1, 1), 77)) <= 3


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_unreadable(name: str) -> None:
    data = FILES[name]
    decode(data)
    # Everywhere near the ends, where a reader may think it has seen enough, and at 40 places between.
    places = {*range(40), *np.linspace(40, len(data) - 40, 40).astype(int).tolist(), *range(len(data) - 40, len(data))}
    accepted = []
    for place in sorted(places):
        try:
            decode(data[:place])
        except Unreadable:
            continue
        accepted.append(place)
    assert accepted == []


@pytest.mark.parametrize("name", FILES)
def test_rubbish_behind_a_whole_file_is_no_harm(name: str) -> None:
    assert np.array_equal(decode(FILES[name] + b"rubbish \xff\xd8" * 50), decode(FILES[name]))


def test_a_jpeg_cut_behind_its_thumbnail_is_unreadable() -> None:
    # The thumbnail inside the EXIF block is a whole JPEG with an end mark of its own.
    thumbnail = encoded(GREY[:32, :32], "JPEG")
    assert thumbnail.endswith(b"\xff\xd9")
    block = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail
    whole = FILES["grey jpeg"]
    data = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + whole[2:]
    assert np.array_equal(decode(data), decode(whole))
    for place in (len(whole) // 2, 200, 2):
        with pytest.raises(Unreadable, match="cut short"):
            decode(data[:-place])


def test_a_jpeg_without_the_last_byte_of_its_end_mark_is_unreadable() -> None:
    # Pillow alone lets a few in a hundred of these pass, depending on the last bits of the picture.
    for shift in range(150):
        data = encoded(np.roll(COLOUR[:48], shift), "JPEG", quality=60 + shift % 35)
        for cut in (1, 2):
            with pytest.raises(Unreadable, match="cut short"):
                decode(data[:-cut])


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_raise_nothing_but_image_errors(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(len(name))
    data = np.frombuffer(FILES[name], np.uint8)
    for _ in range(60):
        damaged = data.copy()
        damaged[random.integers(0, len(data), 4)] = random.integers(0, 256, 4)
        with suppress(ImageError):  # anything else fails the test
            assert decode(damaged.tobytes(), max_pixels=1_000_000).dtype == np.uint8
    assert capfd.readouterr().err == "", "libtiff and OpenCV would speak of damaged files by themselves"


def test_a_png_with_a_damaged_byte_is_found_by_its_checksum() -> None:
    data = bytearray(FILES["grey png"])
    data[len(data) // 2] ^= 1
    with pytest.raises(Unreadable, match="checksum"):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"\0" * 5000, "bytes are zero", id="zeros"),
        pytest.param(b"<html>404 Not Found</html>", "it is an HTML page", id="error page"),
        pytest.param(b"\xef\xbb\xbf\n<!DOCTYPE html>\n<p>Sign in", "it is an HTML page", id="sign-in page"),
        pytest.param(b'<?xml version="1.0"?><Error/>', "it is XML text", id="error of an object store"),
        pytest.param("Müller;1931\n".encode() * 200, "it is text", id="text cut within a letter"),
        pytest.param(b"\xde\xad\xbe\xef" * 20, "it begins like no image format", id="noise"),
        pytest.param(FILES["grey png"][:6], "ends after 6 bytes", id="first bytes of a png"),
        pytest.param(tiff(GREY)[:-30], "cut short", id="tiff without its directory"),
    ],
)
def test_what_is_no_image_is_unreadable_and_said_so(data: bytes, message: str) -> None:
    with pytest.raises(Unreadable, match=message):
        decode(data)


FRAMES = [Image.fromarray(np.roll(GREY, 5 * shift)) for shift in range(12)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]), "holds 12 pages; export", id="tiff"),
        pytest.param(encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), "holds 12 frames; export", id="apng"),
        pytest.param(encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]), "holds 12 frames; export", id="webp"),
        pytest.param(encoded(GREY, "GIF"), "a GIF, which is not taken", id="gif"),
        pytest.param(b"\x1f\x8b\x08" + b"\0" * 99, "gzip.*nii.gz", id="gzip"),
        pytest.param(b"\x93NUMPY" + b"\0" * 99, "a NumPy array", id="numpy"),
        pytest.param(tiff(np.zeros((4, 4), np.float16)), "16 bit float", id="half-precision tiff"),
    ],
)
def test_sound_files_that_are_not_taken_are_unsupported(data: bytes, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unsupported, match=message):
        decode(data)
    assert capfd.readouterr().err == ""


def with_size(data: bytes, kind: str, width: int, height: int) -> bytes:
    """The same small file with another size in its header."""
    changed = bytearray(data)
    if kind == "JPEG":
        at = data.index(b"\xff\xc0")
        changed[at + 5 : at + 9] = struct.pack(">HH", height, width)
    elif kind == "PNG":
        changed[16:24] = struct.pack(">II", width, height)
        changed[29:33] = struct.pack(">I", zlib.crc32(bytes(changed[12:29])))
    elif kind == "BMP":
        changed[18:26] = struct.pack("<ii", width, height)
    elif kind == "TIFF":
        for tag, value in ((256, width), (257, height)):
            at = data.rindex(struct.pack("<HHI", tag, 4, 1))
            changed[at + 8 : at + 12] = struct.pack("<I", value)
    return bytes(changed)


SMALL = {"JPEG": FILES["grey jpeg"], "PNG": FILES["grey png"], "BMP": FILES["grey bmp"], "TIFF": tiff(GREY)}


@pytest.mark.parametrize("kind", SMALL)
def test_a_claimed_size_over_the_limit_is_refused_from_the_header(kind: str) -> None:
    # Only the header claims 900 million pixels: had anything been decoded, the file would be cut short instead.
    with pytest.raises(Unsupported, match="30,000 × 30,000 pixels are more than the limit of 67,108,864"):
        decode(with_size(SMALL[kind], kind, 30_000, 30_000))


@pytest.mark.parametrize("kind", [*SMALL, "WEBP"])
def test_the_limit_counts_pixels_exactly(kind: str) -> None:
    data = encoded(GREY, kind)
    assert decode(data, max_pixels=ROWS * COLUMNS).shape == (ROWS, COLUMNS)
    with pytest.raises(Unsupported, match="raise max_pixels"):
        decode(data, max_pixels=ROWS * COLUMNS - 1)


@pytest.mark.parametrize("kind", SMALL)
def test_a_picture_without_pixels_is_unreadable(kind: str) -> None:
    with pytest.raises(Unreadable):
        decode(with_size(SMALL[kind], kind, 0, 5))


def test_threads_get_the_same_pixels() -> None:
    names = list(FILES) * 20
    expected = {name: decode(data) for name, data in FILES.items()}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: decode(FILES[name]), names))
    assert all(np.array_equal(pixels, expected[name]) for name, pixels in zip(names, found, strict=True))
