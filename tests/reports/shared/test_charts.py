"""Learning curves, confusion matrices and the spaces in captions: drawn for any numbers, and different where the numbers are."""

import io
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from btc_ray.reports.shared.figures import confusion_matrix, contact_sheet, learning_curve

HISTORY = [
    {"epoch": epoch, "split": split, "loss": 1 / epoch, "accuracy": 1 - 0.5 / epoch, "learning_rate": 0.1}
    for epoch in (1, 2, 3)
    for split in ("train", "test")
]
COUNTS = np.array([[9, 1, 0], [2, 7, 1], [0, 0, 10]])
NAMES = ("glioma", "notumor", "pituitary")


def pixels(png: bytes) -> np.ndarray:
    """uint8 (H, W, 3)."""
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def has_colour(picture: np.ndarray, colour: str) -> bool:
    return bool((picture == tuple(bytes.fromhex(colour))).all(axis=2).any())


def test_a_learning_curve_has_a_colour_for_each_split() -> None:
    both, one = pixels(learning_curve(HISTORY)), pixels(learning_curve(HISTORY[::2]))
    assert has_colour(both, "0072b2")
    assert has_colour(both, "d55e00")
    assert not has_colour(one, "d55e00")


def test_the_order_of_the_rows_does_not_bend_the_curve() -> None:
    by_split = sorted(HISTORY, key=lambda row: (row["split"] == "test", -row["epoch"]))
    assert np.array_equal(pixels(learning_curve(HISTORY)), pixels(learning_curve(by_split)))


@pytest.mark.parametrize("loss", [None, math.nan, math.inf])
def test_a_loss_that_diverged_leaves_a_gap(loss: float | None) -> None:
    broken = [{**row, "loss": loss} if row["epoch"] == 2 else row for row in HISTORY]
    assert not np.array_equal(pixels(learning_curve(broken)), pixels(learning_curve(HISTORY)))


@pytest.mark.parametrize("history", [[], HISTORY[:1], [{**HISTORY[0], "split": "$a_b$ <x>"}]])
def test_any_history_gives_a_picture(history: list[dict[str, Any]]) -> None:
    assert pixels(learning_curve(history)).std() > 0


def test_a_history_without_a_key_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="row 1 of the history has no 'loss'"):
        learning_curve([HISTORY[0], {"epoch": 1, "split": "test", "accuracy": 1.0}])


def test_a_confusion_matrix_shows_its_counts_and_not_only_its_shares() -> None:
    assert not np.array_equal(pixels(confusion_matrix(COUNTS, NAMES)), pixels(confusion_matrix(COUNTS * 2, NAMES)))


@pytest.mark.parametrize("size", [1, 2, 12])
def test_a_confusion_matrix_is_drawn_for_any_number_of_classes_and_for_none_of_their_images(size: int) -> None:
    names = [f"$class_{number}$" for number in range(size)]
    assert pixels(confusion_matrix(np.zeros((size, size), np.int64), names)).std() > 0


@pytest.mark.parametrize(
    ("counts", "names"), [(COUNTS[:2], NAMES), (COUNTS, NAMES[:2]), (np.zeros((0, 0)), ()), (-COUNTS, NAMES)]
)
def test_what_is_not_a_confusion_matrix_is_refused(counts: np.ndarray, names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="square and not negative"):
        confusion_matrix(counts, names)


def test_charts_are_drawn_without_pyplot() -> None:
    """Its state is global, and importing it may look for a display."""
    code = (
        "import sys, numpy as np; from btc_ray.reports.shared.figures import confusion_matrix, learning_curve; "
        "learning_curve([]); confusion_matrix(np.eye(2, dtype=int), ['a', 'b']); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_space_in_a_caption_is_seen() -> None:
    image = np.zeros((64, 64), np.uint8)
    ends = []
    for caption in ("0.00x", "0.00 x"):
        text = contact_sheet([image], [caption])[160 + 6 :, :].max(axis=2) > 100
        ends.append(int(np.flatnonzero(text.any(axis=0)).max()))
    assert ends[1] - ends[0] >= 2


def test_a_sheet_is_eight_cells_wide_unless_told_otherwise() -> None:
    image = np.zeros((64, 64), np.uint8)
    assert contact_sheet([image] * 9, ["a"] * 9).shape[1] == 8 * 166 + 6
