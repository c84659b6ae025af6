"""The scanner of phantoms: tissues become grey values of an MRI sequence, posed in a frame, blurred, shaded, noisy, compressed."""

import cv2
import numpy as np
from numpy.random import Generator

from btc_ray.phantoms.anatomy import Head
from btc_ray.phantoms.canvas import GRID, smooth_noise

# Intensities 0–255 before gain and bias. T1 after contrast medium is what tumour patients mostly get, hence the shares.
# A sequence's share of the images, then one intensity per `Tissue`, in its order.
#                 air  fat bone marrow muscle mucosa csf grey white vessel oedema necrosis glioma meningioma adenoma
SEQUENCES: dict[str, tuple[float, tuple[int, ...]]] = {
    "T1 contrast": (0.88, (0, 178, 14, 105, 66, 112, 24, 78, 104, 190, 56, 30, 205, 232, 245)),
    "T2": (0.07, (0, 150, 12, 90, 50, 190, 235, 138, 100, 20, 200, 240, 178, 205, 215)),
    "FLAIR": (0.05, (0, 140, 12, 80, 60, 150, 22, 118, 100, 40, 185, 70, 205, 215, 225)),
}


def acquire(
    head: Head, lesion: np.ndarray | None, rng: Generator, size: tuple[int, int], *, neck: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """uint8 pixels (H, W), and the bool masks of head and lesion in the same frame."""
    names = list(SEQUENCES)
    table = SEQUENCES[names[rng.choice(len(names), p=[SEQUENCES[name][0] for name in names])]][1]
    signal = np.asarray(table, np.float32)[head.tissue]
    signal *= 1 + 0.05 * smooth_noise(rng, 60) + 0.04 * smooth_noise(rng, 12)
    across = np.linspace(-1, 1, GRID, dtype=np.float32)
    slope_x, slope_y, bowl = rng.normal(0, 0.08), rng.normal(0, 0.08), rng.uniform(-0.1, 0.2)  # coil sensitivity
    signal *= (1 + slope_x * across + bowl * (across**2 - 0.4)) * (1 + slope_y * across + bowl * (across**2 - 0.4))[:, None]

    pose = _pose(rng, size, neck)
    height, width = size
    scale = float(np.sqrt(abs(np.linalg.det(pose[:, :2]))))
    signal = cv2.GaussianBlur(signal, (0, 0), rng.uniform(0.6, 1.0) / min(scale, 1.0))
    # Replicated borders carry the neck on to the edge of the frame; on the other sides the border is air.
    signal = cv2.warpAffine(signal, pose, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    signal *= rng.uniform(0.5, 0.75) if rng.random() < 0.2 else rng.uniform(0.88, 1.12)  # a fifth as dim as the real T1 images
    sigma = rng.uniform(1.0, 5.0)
    noise = rng.standard_normal((2, height, width), dtype=np.float32) * np.float32(
        sigma
    )  # Rician: the magnitude of a complex signal
    signal = cv2.magnitude(signal + noise[0], noise[1])
    floor = rng.uniform(4, 25) if rng.random() < 0.2 else 0.0
    pixels = np.clip(floor + signal * (1 - floor / 255), 0, 255).astype(np.uint8)
    if rng.random() < 0.5:  # images reach such collections through several lossy copies
        encoded, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 85))])
        assert encoded
        pixels = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    if rng.random() < 0.15:
        _burn_text(pixels, rng)

    def posed(mask: np.ndarray) -> np.ndarray:
        soft = cv2.warpAffine(mask.astype(np.float32), pose, (width, height), borderMode=cv2.BORDER_REPLICATE)
        return soft > 0.5

    return pixels, posed(head.mask), None if lesion is None else posed(lesion)


def _pose(rng: Generator, size: tuple[int, int], neck: bool) -> np.ndarray:
    """Float64 (2, 3): canvas pixels to image pixels. The neck, where there is one, leaves the frame at the bottom."""
    height, width = size
    zoom = rng.uniform(0.88, 1.04) * min(height, width) / GRID
    stretch = rng.uniform(0.95, 1.05)
    pose = cv2.getRotationMatrix2D((GRID / 2, GRID / 2), rng.normal(0, 4), 1.0)
    pose[0] *= zoom * stretch
    pose[1] *= zoom / stretch
    slack_x, slack_y = max(width - GRID * pose[0, 0], 0.06 * width), max(height - GRID * pose[1, 1], 0.06 * height)
    centre = pose[:, :2] @ (GRID / 2, GRID / 2) + pose[:, 2]
    pose[0, 2] += width / 2 - centre[0] + rng.uniform(-0.4, 0.4) * slack_x
    pose[1, 2] += height / 2 - centre[1] + (rng.uniform(0.0, 0.4) if neck else rng.uniform(-0.4, 0.4)) * slack_y
    return pose


def _burn_text(pixels: np.ndarray, rng: Generator) -> None:
    text = str(rng.choice(("R", "L", "A", "SE 4  IM 12", "T1 AX +C", "TE 14 TR 550", "512 x 512")))
    scale = pixels.shape[0] / 700
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    right, bottom, margin = rng.random() < 0.5, rng.random() < 0.5, round(0.02 * pixels.shape[0])
    x = pixels.shape[1] - width - margin if right else margin
    y = pixels.shape[0] - margin if bottom else margin + height
    cv2.putText(pixels, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, int(rng.integers(150, 256)), 1, cv2.LINE_AA)
