"""One small frame in each transfer syntax that has an encoder here, so that `btc-ray doctor` can see the decoders at work.

Python's libraries for DICOM encode RLE, JPEG-LS and JPEG 2000. The two kinds of JPEG that they do not are written here, of ITU-T T.81 no
more than a frame needs: fixed Huffman codes of 5 bits, one scan. Nothing at hand encodes HTJ2K: that frame was made by OpenJPH.
"""

import base64
from collections.abc import Iterable

import cv2
import numpy as np

SIDE = 64
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")
RLE = "1.2.840.10008.1.2.5"
_CODE = 5  # bits of the Huffman code of every category, which is the code itself: there are 17 at most


def sample_frame(syntax: str) -> tuple[bytes, np.ndarray, int] | None:
    """A compressed frame, its stored words as (SIDE, SIDE) uint8 or uint16, and its bits; None where nothing here encodes it.

    Raises ModuleNotFoundError where the package that encodes, and would decode, is not installed.
    """
    ramp = (np.arange(SIDE * SIDE, dtype=np.uint16) % 3301).reshape(SIDE, SIDE)
    kind = syntax.removeprefix("1.2.840.10008.1.2.")
    if kind == "4.50":
        grey = np.full((SIDE, SIDE), 100, np.uint8)
        return bytes(cv2.imencode(".jpg", grey)[1]), grey, 8
    if kind == "4.51":
        flat = np.full((SIDE, SIDE), 1000, np.uint16)
        return _dct_jpeg(1000), flat, 12
    if kind in ("4.57", "4.70"):
        return _lossless_jpeg(ramp), ramp, 12
    if syntax in HTJ2K:
        return base64.b64decode(_HTJ2K), ramp, 12
    if syntax in (*JPEG_LS, *JPEG_2000, RLE):
        return compressed(ramp, syntax, bits=12), ramp, 12
    return None


def compressed(words: np.ndarray, syntax: str, *, bits: int) -> bytes:
    """uint16 (H, W) of so many bits as one frame of JPEG-LS, JPEG 2000 or RLE, without loss.

    Raises ModuleNotFoundError where the package that does it is not installed, ValueError for another transfer syntax.
    """
    if syntax in JPEG_LS:
        import jpeg_ls

        return bytes(jpeg_ls.encode_array(words))
    if syntax in JPEG_2000:
        from openjpeg.utils import encode_array

        return bytes(encode_array(words, bits_stored=bits))
    if syntax != RLE:
        raise ValueError(f"nothing here encodes {syntax}")
    from pydicom.pixels import get_encoder
    from pydicom.uid import RLELossless

    return get_encoder(RLELossless).encode(
        words.tobytes(), rows=words.shape[0], columns=words.shape[1], samples_per_pixel=1, bits_allocated=16, bits_stored=bits,
        pixel_representation=0, number_of_frames=1, photometric_interpretation="MONOCHROME2", encoding_plugin="pydicom",
    )  # fmt: skip


def _lossless_jpeg(pixels: np.ndarray) -> bytes:
    """Process 14 with first-order prediction: each sample as its difference from the left one, the first of a row from that above."""
    words = pixels.astype(np.int64)
    before = np.empty_like(words)
    before[:, 1:], before[1:, 0], before[0, 0] = words[:, :-1], words[:-1, 0], 1 << 11
    frame = _segment(0xC3, bytes([12, *_sides(), 1, 1, 0x11, 0]))
    scan = _segment(0xDA, bytes([1, 1, 0, 1, 0, 0]))
    return b"\xff\xd8" + frame + _huffman(0, 17) + scan + _entropy_coded(_coded((words - before).ravel())) + b"\xff\xd9"


def _dct_jpeg(level: int) -> bytes:
    """Process 4, 12 bits: every block its mean and an end-of-block."""
    quantisation = _segment(0xDB, bytes([0]) + bytes([1]) * 64)
    frame = _segment(0xC1, bytes([12, *_sides(), 1, 1, 0x11, 0]))
    end_of_block = _segment(0xC4, bytes([0x10, 1, *[0] * 15, 0]))
    scan = _segment(0xDA, bytes([1, 1, 0x00, 0, 63, 0]))
    blocks = (SIDE // 8) ** 2
    means = np.diff([0, *[8 * (level - (1 << 11))] * blocks])
    bits = "".join(f"{''.join(_coded([mean]))}0" for mean in means)
    return b"\xff\xd8" + quantisation + frame + _huffman(0, 16) + end_of_block + scan + _entropy_coded([bits]) + b"\xff\xd9"


def _sides() -> bytes:
    return SIDE.to_bytes(2, "big") * 2


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def _huffman(table: int, categories: int) -> bytes:
    counts = [categories if length == _CODE else 0 for length in range(1, 17)]
    return _segment(0xC4, bytes([table, *counts, *range(categories)]))


def _coded(differences: Iterable[int]) -> list[str]:
    """Each difference as bits: its category, then as many low bits of it, of one less where it is negative."""
    found = []
    for difference in map(int, differences):
        category = abs(difference).bit_length()
        low = (difference if difference >= 0 else difference - 1) & ((1 << category) - 1)
        found.append(f"{category:0{_CODE}b}" + (f"{low:0{category}b}" if category else ""))
    return found


def _entropy_coded(bits: Iterable[str]) -> bytes:
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")


# The ramp without loss, by imagecodecs 2026.3.6 (OpenJPH 0.26.3).
_HTJ2K = """
/0//UQApQAAAAABAAAAAQAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQkJCQiIiI
/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAg0AAf+TwAArAO3/O++r/0PeAoG0AMAAEsAAFTAABUDA7jBTACAASkDlAQa0AAhSCPEAgFQAwAAV
kAAFpwAAVQAAYlx/COKOT6PCdgAH8YoHwiqOh0s0g5n7wHOBTdYAbh+xgODCCM41AMAAFpwAAXXQAAVwAHDA4ZgoCOLnIDDIi4u/p0J7AM+fn5+zx9LOGsAq
DWBVA1j1AFbVHVjJtk6YxfNn7/z6cl3OS7OMYHv2MYHsvwC+JkCIHAf8QEAkjxbIAMAAFswAAXrcAAFWAKDAjDk+ZwEd/vn8+nHKcgO09PT09PJ/AIDeDEDf
DEDfDEBvBqBvBqA3A9A3A9Cb4einQdtmoFYHQZpmIK1mIE0zkFYzkKYZHj169OjRo0ePHj169OjRo0eP/3WHTTLL009NpjAc+ZjAc+ZjAc+ZjAc2egEyMZ5D
/3fAAMHXAMAALagABfRMAAKkAAAAN7kJ/P6/8LClKQfxSBcpSlKUpSlL4wHkTE5ykpOc5CQnOclJTnKSk5zkJCc5yUlO1tyAcY5znOMc5zjHOc5xjnOc4/T7
vu/7vu/7vu/7vu/7vu/7vu/7vu/7vv9/lwAhA9+whA9+whA9+whA9+whA9+whA9+whA9+whA9lgAAAABjAe/ZjAe/ZjAe/ZzAZ/ZjAe/ZjAe/ZjAe/ZjAey1
BOP8/3+pwYJ3AP/Z
"""
