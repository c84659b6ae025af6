"""Pictures for people: thumbnails with the crop drawn in, and contact sheets. Pixels in, pixels or JPEG bytes out; nothing is written."""

from collections.abc import Sequence

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
    columns: int,
    *,
    side: int = SIDE,
    boxes: Sequence[Box | None] | None = None,
) -> np.ndarray:
    """Thumbnails in rows of `columns`, each in the middle of its cell with its caption beneath.

    Args:
        images: uint8 (H, W) grey or (H, W, 3) RGB, each of its own size.
        captions: one for each image; each line that is too long for the cell loses its middle, where file names differ least.
        columns: cells in a row.
        side: of a cell in pixels, without the caption.
        boxes: for each image a rectangle to draw as in `thumbnail`, or None.

    Returns:
        uint8 (h, w, 3) RGB on near-black; for no images, one empty cell.

    Raises:
        ValueError: where lengths differ, `columns` is below 1 or `side` below 32, or a picture is not one.
    """
    if len(captions) != len(images):
        raise ValueError(f"{len(images)} images, but {len(captions)} captions: give one for each")
    if boxes is not None and len(boxes) != len(images):
        raise ValueError(f"{len(images)} images, but {len(boxes)} boxes: give one for each, None where there is none")
    if columns < 1 or side < 32:
        raise ValueError(f"columns={columns}, side={side}: at least one column of 32 pixels is needed")
    font = ImageFont.load_default(size=11)
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    gap, line_height = 6, 15
    cell_width, cell_height = side + gap, side + lines * line_height + gap
    across, down = max(1, min(columns, len(images))), max(1, -(-len(images) // columns))
    sheet = Image.new("RGB", (across * cell_width + gap, down * cell_height + gap), (16, 18, 20))
    draw = ImageDraw.Draw(sheet)
    for index, (pixels, caption) in enumerate(zip(images, captions, strict=True)):
        small = thumbnail(pixels, side=side, box=boxes[index] if boxes is not None else None)
        left, top = gap + index % columns * cell_width, gap + index // columns * cell_height
        sheet.paste(Image.fromarray(small), (left + (side - small.shape[1]) // 2, top + (side - small.shape[0]) // 2))
        for number, line in enumerate(caption.split("\n")):
            draw.text((left, top + side + 1 + number * line_height), _fit(line, font, side), fill=(226, 230, 233), font=font)
    return np.asarray(sheet)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """`text`, or its beginning and its end around an ellipsis where it is wider than `width` pixels."""
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)[:400]
    kept = len(text)
    shown = text
    while kept > 2 and font.getlength(shown) > width:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return shown
