"""TIFF: every layout gives the pixels of its plain twin, stacks are told from pictures, and no directory costs more than it is worth."""

import struct
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest

from btc_ray.images.decode import ImageError, Unreadable, Unsupported, decode
from btc_ray.images.limits import TIFF_DIRECTORIES
from btc_ray.images.prepare import Preprocess, prepare
from tests.images.test_decode import COLOUR, GREY

Order = Literal["<", ">"]
ROWS, COLUMNS = GREY.shape
TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}


def written(blocks: list[bytes], tags: Mapping[int, Any], *, order: Order = "<", big: bool = False, next_one: int = 0) -> bytes:
    """A TIFF of these strips or tiles, with these tags: a number, a list of numbers, bytes (text), or (type, list)."""
    start, places, body = 16 if big else 8, [], b"".join(blocks)
    for block in blocks:
        places.append(start + sum(map(len, blocks[: len(places)])))
        assert block is blocks[len(places) - 1]
    tiled = 322 in tags
    everything = {324 if tiled else 273: places, 325 if tiled else 279: [len(block) for block in blocks], **tags}
    at, tail, entries = start + len(body), b"", b""
    word, inline = ("Q", 8) if big else ("I", 4)
    for tag, value in sorted(everything.items()):
        kind, values = (
            (2, list(value))
            if isinstance(value, bytes)
            else value
            if isinstance(value, tuple)
            else (4, np.atleast_1d(value).tolist())
        )
        packed = struct.pack(f"{order}{len(values)}{TYPES[kind]}", *values)
        entries += struct.pack(f"{order}HH{word}", tag, kind, len(values))
        if len(packed) <= inline:
            entries += packed.ljust(inline, b"\0")
        else:
            entries += struct.pack(order + word, at + len(tail))
            tail += packed
    count = struct.pack(order + ("Q" if big else "H"), len(everything))
    mark = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    mark += struct.pack(order + "HHQ", 8, 0, at + len(tail)) if big else struct.pack(order + "I", at + len(tail))
    return mark + body + tail + count + entries + struct.pack(order + word, next_one)


def base(values: np.ndarray, **more: Any) -> dict[int, Any]:
    samples = 1 if values.ndim == 2 else values.shape[2]
    number = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    return {
        256: values.shape[1], 257: values.shape[0], 258: [8 * values.dtype.itemsize] * samples, 259: 1, 262: 2 if samples > 2 else 1,
        277: samples, 278: values.shape[0], 284: 1, 339: [number] * samples, **more,
    }  # fmt: skip


def tiles_of(plane: np.ndarray, height: int, width: int) -> list[bytes]:
    padded = np.pad(plane, ((0, -len(plane) % height), (0, -plane.shape[1] % width), *[(0, 0)] * (plane.ndim - 2)))
    return [
        padded[top : top + height, left : left + width].tobytes()
        for top in range(0, len(padded), height)
        for left in range(0, padded.shape[1], width)
    ]


def layout(values: np.ndarray, how: str, order: Order) -> bytes:
    """The same numbers, laid out otherwise."""
    stored = values.astype(values.dtype.newbyteorder(order))
    tags = base(values)
    planes = [stored]
    if "planar" in how:
        tags[284] = 2
        planes = [np.ascontiguousarray(stored[..., channel]) for channel in range(stored.shape[2])]
    if "tiles" in how:
        del tags[278]
        tags |= {322: 32, 323: 16}
        blocks = [tile for plane in planes for tile in tiles_of(plane, 16, 32)]
    elif "strips" in how:
        tags[278] = 10
        blocks = [plane[top : top + 10].tobytes() for plane in planes for top in range(0, len(plane), 10)]
    else:
        blocks = [plane.tobytes() for plane in planes]
    if "deflate" in how:
        tags[259] = 8
        blocks = [zlib.compress(block) for block in blocks]
    return written(blocks, tags, order=order, big="big" in how)


LAYOUTS = ("planar", "planar strips", "planar tiles", "planar deflate strips", "planar deflate tiles", "tiles", "deflate strips",
           "deflate tiles", "big strips", "big planar tiles")  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("how", LAYOUTS)
def test_every_layout_gives_the_pixels_of_the_plain_one(how: str, kind: str, order: Order) -> None:
    scale = {"int8": 0.4, "uint8": 1}.get(kind, 100)
    for channels in (2, 3, 4) if "planar" in how else (1, 3):
        values = np.stack([COLOUR[..., 0], COLOUR[..., 1], COLOUR[..., 2], 255 - GREY], -1)[..., :channels] * scale
        numbers = (values[..., 0] if channels == 1 else values).astype(kind)
        plain = layout(numbers, "", order)
        found = decode(layout(numbers, how, order))
        assert np.array_equal(found, decode(plain))
        assert np.ptp(found) > 50


def test_memory_of_before_never_becomes_a_picture() -> None:
    """What OpenCV 5.0 did with planar pictures: their pixels changed from one call to the next."""
    data = layout(COLOUR.astype(np.uint16) * 200, "planar", "<")
    found = {decode(data, algorithm=algorithm).tobytes() for algorithm in (2, 2, 2)}
    assert len(found) == 1
    assert np.corrcoef(np.frombuffer(found.pop(), np.uint8), (COLOUR @ [0.299, 0.587, 0.114]).ravel())[0, 1] > 0.99


@pytest.mark.parametrize("bits", range(9, 16))
def test_numbers_without_gaps_between_them_are_read(bits: int) -> None:
    values = GREY.astype(np.uint16) << (bits - 9)
    single = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(single.reshape(ROWS, -1).astype(np.uint8), axis=1)
    packed = written([rows.tobytes()], base(values) | {258: bits})
    assert np.array_equal(decode(packed), decode(layout(values, "", "<")))


STACK = np.stack([np.roll(GREY, 3 * slice_) for slice_ in range(5)])
OME = (
    b'<?xml version="1.0"?><OME><Image><Pixels SizeC="1" SizeT="%d" SizeX="83" SizeY="97" SizeZ="%d">%s</Pixels></Image></OME>\0'
)
FILE = b'<TiffData FirstZ="%d"><UUID FileName="slice_%d.ome.tif">urn:uuid:1</UUID></TiffData>'


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param({270: b"ImageJ=1.54f\nimages=5\nslices=5\nloop=false\n\0"}, id="ImageJ"),
        pytest.param({270: b"ImageJ=1.51n\nimages=5\nframes=5\nhyperstack=true\n\0"}, id="ImageJ over time"),
        pytest.param({270: b"ImageJ=1.47a\nchannels=5\nmode=composite\n\0"}, id="ImageJ channels"),
        pytest.param({270: OME % (1, 5, b'<TiffData IFD="0"/>')}, id="OME"),
        pytest.param({270: OME % (5, 1, b"")}, id="OME over time"),
        pytest.param({270: b'{"shape": [5, 97, 83]}\0'}, id="tifffile"),
        pytest.param({32997: 5}, id="ImageDepth"),
        pytest.param({33629: [0] * 5}, id="MetaMorph"),
        pytest.param({}, id="five times the bytes"),
    ],
)
def test_slices_behind_one_directory_are_a_stack(tags: dict[int, Any]) -> None:
    strips = [STACK.tobytes(), GREY.tobytes()] if tags else [STACK.tobytes()]  # else nothing tells of the others
    for data in [written([strip], base(GREY) | tags) for strip in strips]:
        with pytest.raises(Unsupported, match="holds 5 slices"):
            decode(data)
        with pytest.raises(Unsupported, match="holds 5 slices"):
            decode(data + STACK.tobytes())


@pytest.mark.parametrize(
    "text",
    [
        b"ImageJ=1.54f\nunit=mm\nmin=0.0\nmax=255.0\n\0",
        b"ImageJ=1.54f\nimages=1\nslices=1\n\0",
        OME % (1, 1, b""),
        OME % (1, 2, FILE % (0, 0) + FILE % (1, 1)),  # the other slice is in another file
        b'{"shape": [97, 83]}\0',
        b"slices=5 of a story\0",
    ],
)
def test_a_description_of_one_picture_is_no_stack(text: bytes) -> None:
    assert np.array_equal(decode(written([GREY.tobytes()], base(GREY) | {270: text})), GREY)


@pytest.mark.parametrize(
    ("compression", "name"), [(34712, "JPEG 2000"), (33003, "JPEG 2000"), (50002, "JPEG XL"), (34887, "LERC"), (12345, "12345")]
)
def test_a_compression_that_is_not_taken_is_named(compression: int, name: str) -> None:
    with pytest.raises(Unsupported, match=f"compression .*{name}"):
        decode(written([b"\xff\x4f\xff\x51" + bytes(500)], base(GREY) | {259: compression}))


def chain(count: int) -> bytes:
    """Small directories that follow one another."""
    one = struct.pack("<HHHII", 1, 254, 4, 1, 1)
    return b"II*\0" + struct.pack("<I", 8) + b"".join(one + struct.pack("<I", 8 + 18 * (number + 1)) for number in range(count))


def many_tags(count: int) -> bytes:
    """Tags that share one long value."""
    entries = b"".join(struct.pack("<HHII", 300 + number, 3, 100_000, 8) for number in range(count))
    return b"II*\0" + struct.pack("<I", 200_008) + bytes(200_000) + struct.pack("<H", count) + entries + bytes(4)


BOMBS = {
    "BigTIFF at 2^64-1": b"II+\0\x08\0\0\0" + b"\xff" * 8,
    "BigTIFF at 2^63": b"MM\0+\0\x08\0\0" + struct.pack(">Q", 2**63),
    "BigTIFF of 2^64-1 tags": b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**64 - 1) + bytes(40),
    "TIFF at 2^32-1": b"II*\0\xff\xff\xff\xff",
    "20,000 directories": chain(20_000),
    "tags that share a value": many_tags(8_000),
    "60,000 × 60,000": written([b""], base(GREY) | {256: 60_000, 257: 60_000}),
    "8,192 × 8,000 × 16 doubles": written([b"\0"] * 16, base(GREY) | {256: 8192, 257: 8000, 258: [64] * 16, 277: 16, 284: 2, 339: 3}),
    "a tile of a million pixels a side": written([b"\0"], base(GREY) | {322: 2**20, 323: 2**20}),
    "8 samples": written([bytes(8 * 8051)], base(GREY) | {258: [8] * 8, 277: 8, 339: [1] * 8}),
    "65,535 samples": written([b"\0"], base(GREY) | {277: 65_535}),
    "a row a strip of 60 million": written([b"\0"], base(GREY) | {256: 1, 257: 60_000_000, 278: 1}),
    "strips that are the whole file": written(
        [zlib.compress(GREY.tobytes())], base(GREY) | {259: 8, 278: 1, 273: [8] * 97, 279: [5000] * 97},
    ),
    "deflate that grows a thousandfold": written(
        [zlib.compress(bytes(60_000_000), 9)], base(GREY) | {256: 8000, 257: 7500, 258: 16, 259: 8},
    ),
    "two bits of 2^31": written([b"\0"], base(GREY) | {258: 2**31}),
    "no width": written([GREY.tobytes()], base(GREY) | {256: 0}),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_hostile_directory_is_a_row_with_its_reason(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImageError):
        decode(BOMBS[name])
    found = prepare(BOMBS[name], Preprocess())
    assert found.status in ("unreadable", "unsupported")
    assert capfd.readouterr().err == ""


def test_a_long_chain_is_called_a_stack() -> None:
    with pytest.raises(Unsupported, match=f"more than {TIFF_DIRECTORIES:,} pages"):
        decode(chain(TIFF_DIRECTORIES + 1))


def test_strips_that_are_missing_are_told() -> None:
    for tags in ({278: 10}, {278: 10, 273: [8] * 9}, {278: 10, 273: [0] * 10, 279: [0] * 10}):
        with pytest.raises(Unreadable, match="lacks some"):
            decode(written([GREY.tobytes()], base(GREY) | tags))
