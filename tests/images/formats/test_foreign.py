"""Sound files of kinds that are not taken are called by their name, and no error quotes a file."""

import struct
import zlib

import numpy as np
import pytest

from btc_ray.images.decode import ImageError, Unreadable, Unsupported, decode
from btc_ray.images.prepare import Preprocess, prepare
from tests.images.formats.test_jpeg import FILES as JPEGS
from tests.images.test_decode import COLOUR, FILES, GREY, opencv_png

BOX = struct.pack(">I", 24)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", "JPEG XL"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG 2000"),
        (b"II\xbc\x01\x20\0\0\0", "JPEG XR"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08\0\x10\0\x10\1\1\x11\0", "JPEG-LS"),
        *((BOX + b"ftyp" + brand, "AVIF") for brand in (b"avif", b"avis", b"mif1", b"msf1")),
        *((BOX + b"ftyp" + brand, "HEIC") for brand in (b"heic", b"heix", b"hevc", b"heim", b"mif1")),
        (b"P1\n2 2\n0 1 1 0\n", "PBM"),
        (b"P2\n# a remark\n2 2\n255\n0 1 2 3\n", "PGM"),
        (b"P5 200 200 255 ", "PGM"),
        (b"P6\n200 200\n255\n", "PPM"),
        (b"P7\nWIDTH 2\n", "PAM"),
        (b"Pf\n2 2\n-1.0\n", "PFM"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"ObjectType = Image\nNDims = 3\n", "MetaImage"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "7z"),
    ],
)
def test_a_picture_of_a_foreign_kind_is_unsupported_by_its_name(data: bytes, name: str) -> None:
    with pytest.raises(Unsupported, match=name):
        decode(data + bytes(300))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"../../.git/annex/objects/Xk/1V/SHA256E-s1--aa.png/SHA256E-s1--aa.png", "git annex get"),
        (b"P51 is no picture", "it is text"),
        (b"BM and no bitmap at all", "it is text"),
    ],
)
def test_text_under_an_image_s_name_is_called_what_it_is(data: bytes, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        decode(data)


SECRET = b"root:$6$hash:19000:0:99999:7:::"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(SECRET * 9, id="a shadow file"),
        pytest.param(b"\xff\xd8\xff\xe1" + SECRET * 9, id="behind a JPEG mark"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + SECRET * 9, id="behind a PNG mark"),
        pytest.param(
            b"\x89PNG\r\n\x1a\n\0\0\0\0" + SECRET[:4] + struct.pack(">I", zlib.crc32(SECRET[:4])) + SECRET, id="a chunk's name"
        ),
        pytest.param(b"II*\0\x08\0\0\0" + SECRET * 9, id="behind a TIFF mark"),
        pytest.param(b"BM" + bytes(12) + b"\x28\0\0\0" + SECRET * 9, id="behind a BMP mark"),
        pytest.param(b"RIFF\xff\0\0\0WEBP" + SECRET * 20, id="behind a WebP mark"),
        pytest.param(b"\xde\xad\xbe\xef" + SECRET, id="behind noise"),
    ],
)
def test_no_row_quotes_its_file(data: bytes) -> None:
    found = prepare(data, Preprocess())
    assert found.status in ("unreadable", "unsupported")
    for start in range(len(SECRET) - 4):
        assert SECRET[start : start + 4].decode() not in str(found.error)
    assert "de ad" not in str(found.error)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def header(width: int, height: int, depth: int, colour: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


END = (b"IEND", b"")
ROWS = (b"IDAT", zlib.compress(bytes(9 * 8)))
HOSTILE = {
    "a palette PNG without a palette": png(header(8, 8, 8, 3), (b"IDAT", zlib.compress(bytes(range(72)))), END),
    "a palette of one byte": png(header(8, 8, 8, 3), (b"PLTE", b"\1"), (b"IDAT", zlib.compress(bytes(range(72)))), END),
    "a colour type that is none": png(header(8, 8, 8, 5), ROWS, END),
    "3 bits": png(header(8, 8, 3, 0), ROWS, END),
    "16-bit colour that ends early": png(header(80, 80, 16, 2), (b"IDAT", zlib.compress(bytes(999))), END),
    "16-bit colour with a filter that is none": png(header(8, 8, 16, 2), (b"IDAT", zlib.compress((b"\5" + bytes(48)) * 8)), END),
    "16-bit colour that is no deflate": png(header(80, 80, 16, 6), (b"IDAT", bytes(999)), END),
    "16-bit colour of 64 million pixels": png(header(8000, 8000, 16, 6), (b"IDAT", zlib.compress(bytes(99))), END),
    "200,000 chunks": png(header(8, 8, 8, 0), *[(b"tEXt", b"")] * 200_000, ROWS, END),
    "a WebP canvas of 64 million pixels": b"RIFF" + struct.pack("<I", 52) + b"WEBPVP8X\n\0\0\0\0\0\0\0" + (7999).to_bytes(3, "little") * 2
    + bytes(30),
    "a BMP of 64 million pixels": b"BM" + bytes(8) + struct.pack("<IIiiHHIIiiII", 54, 40, 8000, 8000, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(99),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_a_row_with_its_reason(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImageError):
        decode(HOSTILE[name])
    assert prepare(HOSTILE[name], Preprocess()).status in ("unreadable", "unsupported")
    assert capfd.readouterr().err == ""


def test_a_chunk_within_the_pixel_data_of_a_png_is_no_harm_and_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    pixels = zlib.compress(b"".join([b"\0" + bytes(range(48))] * 8))
    parts = [(b"IDAT", pixels[:30]), (b"PLTE", bytes(6)), (b"IDAT", pixels[30:])]
    whole = png(header(8, 8, 16, 2), (b"IDAT", pixels), END)
    assert np.array_equal(decode(png(header(8, 8, 16, 2), *parts, END)), decode(whole))
    assert capfd.readouterr().err == ""


def test_remarks_of_a_png_change_nothing() -> None:
    sound = opencv_png(COLOUR.astype(np.uint16) * 99)
    chunk = struct.pack(">I", 5) + b"iCCPx\0\0zz" + struct.pack(">I", zlib.crc32(b"iCCPx\0\0zz"))
    assert np.array_equal(decode(sound[:33] + chunk + sound[33:]), decode(sound))
    assert np.array_equal(decode(FILES["grey png"][:33] + chunk + FILES["grey png"][33:]), GREY)


@pytest.mark.parametrize("name", ["grey baseline", "colour progressive"])
def test_a_sound_file_in_pieces_never_costs_the_run(name: str) -> None:
    for start in range(1, 300, 7):
        assert prepare(JPEGS[name][start:], Preprocess()).status == "unreadable"
