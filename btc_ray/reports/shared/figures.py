"""Pictures for people: thumbnails with the crop drawn in, contact sheets, learning curves, confusion matrices.

Numbers and pixels in; pixels, JPEG bytes or PNG bytes out. Nothing is written, and no state of pyplot is touched.
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 160  # px, the longest side of a thumbnail
CROP_COLOUR = (86, 180, 233)  # RGB: sky blue of Okabe and Ito, seen by the colour-blind and on every grey

Box = tuple[int, int, int, int]


def thumbnail(pixels: np.ndarray, *, side: int = SIDE, box: Box | None = None) -> np.ndarray:
    """A small copy with `box` drawn in.

    Args:
        pixels: uint8 (H, W) grey or (H, W, 3) RGB.
        side: the longest side of the result in pixels; a smaller picture keeps its size.
        box: x, y, width, height in pixels of `pixels`; a part outside the picture is not drawn.

    Returns:
        uint8 (h, w, 3) RGB, at least one pixel either way.

    Raises:
        ValueError: for another type or shape, an empty picture, or a side below 1.
    """
    if pixels.dtype != np.uint8 or pixels.size == 0 or (pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] != 3)):
        raise ValueError(f"a picture is uint8 (H, W) or (H, W, 3) and not empty, this one is {pixels.dtype} {pixels.shape}")
    if side < 1:
        raise ValueError(f"a thumbnail of side {side} is not possible: give 1 pixel or more")
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    small = cv2.cvtColor(small, cv2.COLOR_GRAY2RGB) if small.ndim == 2 else small.copy()
    if box is not None:
        x, y, w, h = box
        left, top = round(x * size[0] / width), round(y * size[1] / height)
        right, bottom = round((x + w) * size[0] / width) - 1, round((y + h) * size[1] / height) - 1
        cv2.rectangle(small, (left, top), (max(left, right), max(top, bottom)), CROP_COLOUR, 1)
    return small


def jpeg(pixels: np.ndarray, *, quality: int = 82) -> bytes:
    """JPEG bytes of uint8 (H, W, 3) RGB; `quality` from 1 to 100."""
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert encoded, pixels.shape
    return data.tobytes()


def contact_sheet(
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    *,
    columns: int = 8,
    cell: int = SIDE,
    boxes: Sequence[Box | None] | None = None,
) -> np.ndarray:
    """Thumbnails in rows of `columns`, each in the middle of its cell with its caption beneath.

    Args:
        images: uint8 (H, W) grey or (H, W, 3) RGB, each of its own size.
        captions: one for each image; each line that is too long for the cell loses its middle, where file names differ least.
        columns: cells in a row.
        cell: side of a cell in pixels, without the caption.
        boxes: for each image a rectangle to draw as in `thumbnail`, or None.

    Returns:
        uint8 (h, w, 3) RGB on near-black; for no images, one empty cell.

    Raises:
        ValueError: where lengths differ, `columns` is below 1 or `cell` below 32, or a picture is not one.
    """
    if len(captions) != len(images):
        raise ValueError(f"{len(images)} images, but {len(captions)} captions: give one for each")
    if boxes is not None and len(boxes) != len(images):
        raise ValueError(f"{len(images)} images, but {len(boxes)} boxes: give one for each, None where there is none")
    if columns < 1 or cell < 32:
        raise ValueError(f"columns={columns}, cell={cell}: at least one column of 32 pixels is needed")
    import matplotlib

    # matplotlib's own DejaVu: Pillow's built-in font draws no gap for a space and knows Latin letters only.
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size=11)
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    gap, line_height = 6, 15
    cell_width, cell_height = cell + gap, cell + lines * line_height + gap
    across, down = max(1, min(columns, len(images))), max(1, -(-len(images) // columns))
    sheet = Image.new("RGB", (across * cell_width + gap, down * cell_height + gap), (16, 18, 20))
    draw = ImageDraw.Draw(sheet)
    for index, (pixels, caption) in enumerate(zip(images, captions, strict=True)):
        small = thumbnail(pixels, side=cell, box=boxes[index] if boxes is not None else None)
        left, top = gap + index % columns * cell_width, gap + index // columns * cell_height
        sheet.paste(Image.fromarray(small), (left + (cell - small.shape[1]) // 2, top + (cell - small.shape[0]) // 2))
        for number, line in enumerate(caption.split("\n")):
            draw.text((left, top + cell + 1 + number * line_height), _fit(line, font, cell), fill=(226, 230, 233), font=font)
    return np.asarray(sheet)


def learning_curve(history: Sequence[Mapping[str, Any]]) -> bytes:
    """Loss and accuracy per epoch, a line a split, as PNG.

    Args:
        history: rows with the keys epoch, split, loss, accuracy, in any order. A value that is None or not finite (a loss that
            diverged) leaves a gap in its line. No rows: an empty chart that says so.

    Raises:
        ValueError: where a row lacks a key.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    for number, row in enumerate(history):
        missing = [name for name in ("epoch", "split", "loss", "accuracy") if name not in row]
        if missing:
            raise ValueError(
                f"row {number} of the history has no {missing[0]!r}; a row is one epoch and split with its loss and accuracy"
            )
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    splits = list(dict.fromkeys(str(row["split"]) for row in history))
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for index, split in enumerate(splits):
            rows = sorted((row for row in history if str(row["split"]) == split), key=lambda row: row["epoch"])
            values = [math.nan if row[name] is None or not math.isfinite(row[name]) else row[name] for row in rows]
            # The marker tells the splits apart where colour does not, and shows a history of one epoch at all.
            axes.plot(
                [row["epoch"] for row in rows], values, color=LINES[index % len(LINES)], marker="osD^v"[index % 5],
                markersize=3.5, linewidth=1.6, label=plain(split),
            )  # fmt: skip
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(color="#d5dde2", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if splits:
            axes.legend(frameon=False)
        else:
            axes.text(0.5, 0.5, "no epochs", transform=axes.transAxes, ha="center", va="center")
    return png(figure)


def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> bytes:
    """Counts and row percentages in their cells, as PNG; shaded by the percentage, so that a large class does not outshine a small.

    Args:
        counts: integers (classes, classes), true class by row, predicted class by column.
        classes: the names, in the order of rows and columns.

    Raises:
        ValueError: where `counts` is not square, has another size than `classes`, is negative, or there are no classes.
    """
    from matplotlib.figure import Figure

    counts = np.asarray(counts)
    if not classes or counts.shape != (len(classes), len(classes)) or counts.min() < 0:
        raise ValueError(f"a confusion matrix of {len(classes)} classes is square and not negative, this one is {counts.shape}")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = max(4.0, 1.05 * len(classes) + 2)
    figure = Figure(figsize=(side, side * 0.92), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)  # even in lightness, and the same to the colour-blind
    names = [plain(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), [f"{name} ({total:,})" for name, total in zip(names, totals[:, 0], strict=True)])
    axes.set(xlabel="predicted", ylabel="true (images)")
    for row, column in np.ndindex(counts.shape):
        share = f"{shares[row, column]:.1%}" if totals[row, 0] else "–"
        ink = "black" if shares[row, column] > 0.5 else "white"
        axes.text(column, row, f"{counts[row, column]:,}\n{share}", ha="center", va="center", color=ink, fontsize=9)
    return png(figure)


# Okabe and Ito's colours that stand out on white.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def png(figure: Any) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png")  # a Figure of its own draws with Agg; no display is asked for
    return sink.getvalue()


def plain(text: str) -> str:
    return text.replace("$", r"\$")  # between two of them matplotlib reads mathematics


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """`text`, or its beginning and its end around an ellipsis where it is wider than `width` pixels."""
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)[:400]
    kept = len(text)
    shown = text
    while kept > 2 and font.getlength(shown) > width:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return shown
