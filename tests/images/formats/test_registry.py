"""One registry: whose file it is, by content alone, and what a format plugs in."""

import numpy as np
import pytest

from btc_ray.images.decode import decode_shrunk, format_of, picture_of
from btc_ray.images.formats import FORMATS, HEAD, Format, sniff
from btc_ray.images.limits import MAX_PIXELS
from btc_ray.images.picture import ALGORITHM
from tests.images.test_decode import FILES

RASTER = ("JPEG", "PNG", "TIFF", "WebP", "BMP")


@pytest.mark.parametrize("name", FILES)
def test_a_file_belongs_to_one_format_by_its_head(name: str) -> None:
    kind = next(word for word in RASTER if word.lower() in name)
    owners = [one.name for one in FORMATS if one.sniff(FILES[name][:HEAD])]
    if name == "jpeg tiff":
        kind = "TIFF"
    assert owners == [kind]
    assert format_of(FILES[name]).name == kind
    assert format_of(FILES[name]).frames(FILES[name]) == 1


@pytest.mark.parametrize("head", [b"", b"B", b"BM of text, not of pixels", b"II", b"RIFF", bytes(HEAD), bytes(range(256)) * 4])
def test_what_is_no_picture_belongs_to_none(head: bytes) -> None:
    assert sniff(head) is None


def test_every_suffix_has_one_format_and_is_written_like_a_name_s_end() -> None:
    suffixes = [suffix for one in FORMATS for suffix in one.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)


@pytest.mark.parametrize("one", [one for one in FORMATS if one.name in RASTER], ids=lambda one: one.name)
def test_a_picture_tells_its_size_and_no_window_where_the_file_holds_grey_levels(one: Format) -> None:
    data = next(FILES[name] for name in ("grey jpeg", "grey png", "tiff", "webp", "grey bmp") if one.name.lower() in name)
    picture = picture_of(data)
    assert (picture.width, picture.height) == (83, 97)
    assert (picture.window_low, picture.window_high, picture.plane, picture.geometry) == (None, None, None, None)
    assert (one.mode or str)(data) in ("L", "RGB")


def test_a_format_without_a_shortcut_comes_whole_where_a_part_was_asked_for() -> None:
    small, whole = decode_shrunk(FILES["grey png"], least_side=8), picture_of(FILES["grey png"])
    assert np.array_equal(small.grey, whole.grey)
    assert min(decode_shrunk(FILES["grey jpeg"], least_side=8).grey.shape) < 20


def test_the_same_frame_comes_by_the_registry_and_by_the_front_door() -> None:
    data = FILES["16-bit tiff"]
    found = format_of(data).decode(data, 0, max_pixels=MAX_PIXELS, algorithm=ALGORITHM)
    assert np.array_equal(found.grey, picture_of(data).grey)
