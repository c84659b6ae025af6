"""Thumbnails and contact sheets: sizes, boxes, captions."""

import cv2
import numpy as np
import pytest

from btc_ray.reports.shared.figures import CROP_COLOUR, contact_sheet, jpeg, thumbnail

GREY = np.full((300, 200), 90, np.uint8)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((300, 200), (160, 107, 3)), ((50, 80), (50, 80, 3)), ((4000, 3), (160, 1, 3)), ((300, 200, 3), (160, 107, 3))],
)
def test_a_thumbnail_keeps_the_proportions_and_never_grows(shape: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    assert thumbnail(np.zeros(shape, np.uint8)).shape == expected


def test_the_crop_is_drawn_where_it_lies_and_the_picture_is_left_alone() -> None:
    before = GREY.copy()
    small = thumbnail(GREY, side=150, box=(50, 100, 100, 160))
    drawn = np.argwhere((small == CROP_COLOUR).all(axis=2))
    assert drawn.min(axis=0).tolist() == [50, 25]
    assert drawn.max(axis=0).tolist() == [129, 74]
    assert np.array_equal(GREY, before)


@pytest.mark.parametrize("pixels", [GREY.astype(float), np.zeros((0, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)])
def test_what_is_not_a_picture_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a picture is uint8"):
        thumbnail(pixels)


def test_jpeg_bytes_hold_the_picture_with_its_colours() -> None:
    pixels = np.full((64, 64, 3), (200, 60, 20), np.uint8)
    read = cv2.imdecode(np.frombuffer(jpeg(pixels), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(read[..., ::-1].astype(int) - pixels).max() < 6


def test_a_sheet_has_a_cell_for_each_image_and_text_beneath_it() -> None:
    sheet = contact_sheet([GREY, GREY, GREY], ["one.jpg", "Gehirn ä µ", "a" * 300], columns=2, cell=100)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 * (100 + 15 + 6) + 6, 2 * 106 + 6, 3)
    first_caption, empty_cell = sheet[107:121, 6:106], sheet[128:228, 112:212]
    assert first_caption.max() > 180
    assert len(np.unique(empty_cell.reshape(-1, 3), axis=0)) == 1
    assert sheet[228:243, 106:].max() < 40, "a long caption ends within its cell"


def test_no_images_give_one_empty_cell() -> None:
    assert contact_sheet([], []).ndim == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"images": [GREY], "captions": [], "columns": 1}, "1 images, but 0 captions"),
        ({"images": [GREY], "captions": ["a"], "columns": 0}, "at least one column"),
        ({"images": [GREY], "captions": ["a"], "columns": 1, "boxes": []}, "1 images, but 0 boxes"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        contact_sheet(**arguments)
