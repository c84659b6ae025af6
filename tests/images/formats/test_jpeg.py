"""JPEG: the pixels that Pillow gives, and none where libjpeg would have made some up."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from btc_ray.images.decode import Unreadable, Unsupported, decode, decode_shrunk
from btc_ray.images.limits import JPEG_SCANS, JPEG_SEGMENTS
from tests.images.test_decode import COLOUR, GREY, encoded

END = b"\xff\xd9"
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "with restart marks": {"restart_marker_rows": 1},
    "4:4:4": {"subsampling": 0},
    "4:2:0": {"subsampling": 2},
    "optimised": {"optimize": True},
}
PICTURES = {"grey": Image.fromarray(GREY), "colour": Image.fromarray(COLOUR), "cmyk": Image.fromarray(COLOUR).convert("CMYK")}
FILES = {
    f"{colour} {kind}": encoded(picture.resize((332, 388)), "JPEG", quality=90, **options)
    for colour, picture in PICTURES.items()
    for kind, options in KINDS.items()
    if colour == "colour" or ":" not in kind
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("least_side", [None, 9, 40, 100, 160])
def test_the_pixels_are_those_of_pillow(name: str, least_side: int | None) -> None:
    image = Image.open(io.BytesIO(FILES[name]))
    image.draft("L", image.size if least_side is None else (least_side, least_side))
    found = decode(FILES[name]) if least_side is None else decode_shrunk(FILES[name], least_side=least_side).grey
    assert np.array_equal(found, np.asarray(image.convert("L")))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.98])
def test_a_file_that_breaks_off_is_unreadable_even_with_an_end_mark(name: str, share: float) -> None:
    data = FILES[name]
    broken = data[: int(share * len(data))] + END
    for least_side in (9, 5000):
        with pytest.raises(Unreadable, match=r"breaks off|hole|cut short"):
            decode_shrunk(broken, least_side=least_side)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("filling", [b"", bytes(400), np.random.default_rng(1).bytes(400).replace(b"\xff", b"\0")])
def test_a_file_with_a_hole_is_unreadable(name: str, filling: bytes) -> None:
    data = FILES[name]
    at = int(0.6 * len(data))
    with pytest.raises(Unreadable, match=r"breaks off|hole|cut short"):
        decode(data[:at] + filling + data[at + 400 :])


@pytest.mark.parametrize("name", [name for name in FILES if "progressive" in name])
def test_a_file_cut_between_two_scans_is_unreadable(name: str) -> None:
    data = FILES[name]
    last_tables = max(data.rfind(b"\xff\xc4"), data.rfind(b"\xff\xda"))
    with pytest.raises(Unreadable, match=r"cut short \(after .* scans"):
        decode(data[:last_tables] + END)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("padding", [b"\0", b"\0\0", bytes(509), b" " * 64])
def test_padding_before_the_end_mark_is_no_harm(name: str, padding: bytes) -> None:
    data = FILES[name]
    assert np.array_equal(decode(data[:-2] + padding + END), decode(data))


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + segment(marker, body) + data[2:]


@pytest.mark.parametrize(
    ("marker", "body"),
    [
        pytest.param(0xE0, b"JFIF\0\x09\x09\0\0\1\0\1\0\0", id="unknown JFIF version"),
        pytest.param(0xE2, b"ICC_PROFILE\0\1\2" + bytes(90), id="half a colour profile"),
        pytest.param(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff", id="EXIF directory behind the end"),
        pytest.param(0xE1, b"Exif\0\0II+\0\x08\0\0\0" + b"\xff" * 8, id="EXIF as BigTIFF at 2^64-1"),
        pytest.param(0xE1, b"Exif\0\0MM\0+\0\x08\0\0" + struct.pack(">QQ", 16, 2**64 - 1), id="EXIF of 2^64-1 tags"),
        pytest.param(0xE1, b"Exif\0\0", id="empty EXIF"),
        pytest.param(0xE2, b"MPF\0II*\0\xff\xff\xff\x7f", id="damaged MPF"),
        pytest.param(0xFE, bytes(range(256)) * 200, id="a remark with marks in it"),
    ],
)
def test_an_odd_remark_before_the_picture_changes_nothing(marker: int, body: bytes) -> None:
    for name in ("grey baseline", "colour progressive"):
        odd = with_segment(FILES[name], marker, body)
        assert np.array_equal(decode(odd), decode(FILES[name]))
        with pytest.raises(Unreadable):
            decode(odd[: -len(FILES[name]) // 2] + END)


def test_five_thousand_tags_that_share_one_long_value_cost_nothing() -> None:
    tags = b"".join(struct.pack("<HHII", 33000 + number, 3, 16_000, 8) for number in range(2_600))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2_600) + tags + bytes(33_000)
    assert np.array_equal(decode(with_segment(FILES["grey baseline"], 0xE1, exif[:65_000])), decode(FILES["grey baseline"]))


def frame_header(data: bytes) -> int:
    return next(at for at in (data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) if at > 0)


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


GREY_FILE, COLOUR_FILE, PROGRESSIVE = FILES["grey baseline"], FILES["colour 4:4:4"], FILES["colour progressive"]
FINE = encoded(PICTURES["colour"], "JPEG", progressive=True, subsampling=0)
LAST = PROGRESSIVE.rindex(b"\xff\xda")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(changed(GREY_FILE, frame_header(GREY_FILE) + 4, b"\x0c"), "a JPEG of 12 bits", id="12 bits"),
        pytest.param(b"\xff\xd8\xff\xf7\0\x0b\x08\0\xc8\0\xc8\1\1\x11\0" + bytes(99) + END, "JPEG-LS", id="jpeg-ls"),
        pytest.param(changed(GREY_FILE, frame_header(GREY_FILE) + 1, b"\xc5"), "hierarchical", id="hierarchical"),
        pytest.param(changed(FINE, frame_header(FINE) + 5, struct.pack(">HH", 8192, 8000)), "MB of memory", id="memory"),
        pytest.param(PROGRESSIVE[:LAST] + PROGRESSIVE[LAST:-2] * (JPEG_SCANS + 1) + END, "more than 200 scans", id="scans"),
        pytest.param(
            changed(FILES["grey progressive"], frame_header(FILES["grey progressive"]) + 5, struct.pack(">HH", 8192, 8000))[:-2]
            + FILES["grey progressive"][FILES["grey progressive"].rindex(b"\xff\xda") : -2] * 30
            + END,
            "goes over its pixels",
            id="work",
        ),
        pytest.param(GREY_FILE[:2] + segment(0xFE, b"") * JPEG_SEGMENTS + GREY_FILE[2:], "segments", id="segments"),
    ],
)
def test_a_jpeg_that_is_not_taken_or_asks_too_much_is_unsupported_by_name(data: bytes, message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        decode(data)


def test_a_rare_sampling_is_decoded_all_the_same() -> None:
    """Grey half as fine as its colour: nobody writes it, and the standard allows it."""
    at = frame_header(COLOUR_FILE)
    odd = changed(COLOUR_FILE, at + 14, b"\x22")
    try:
        found = decode(odd)
    except Unreadable:
        return
    assert found.shape == (388, 332)
