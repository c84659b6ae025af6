"""Images that are no brain MRI of the kind the model learned from, made by code or shipped with pydicom and scikit-learn; each uint8
(H, W) grey."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

from btc_ray.phantoms.phantom import LABELS, make_phantom


def strangers(count: int) -> dict[str, list[np.ndarray]]:
    """`count` pictures of each kind made by code, and what pydicom has, by name of the kind."""
    random = np.random.default_rng(0)
    kinds: dict[str, Callable[[Generator], np.ndarray]] = {
        "landscapes by code": photograph,
        "noise": noise,
        "text pages": text_page,
    }
    made = {name: [make(random) for _ in range(count)] for name, make in kinds.items()}
    made["phantoms of heads"] = [make_phantom(LABELS[seed % len(LABELS)], seed=seed).pixels for seed in range(count)]
    shipped = {"photographs, real": real_photographs(count, random), "digits": digits(count)}
    return {"pydicom's test files": dicom_files()} | made | shipped


def dicom_files() -> list[np.ndarray]:
    """Middle slices of pydicom's own files that hold a picture of 16 pixels a side or more; none without pydicom."""
    try:
        import pydicom
        import pydicom.data
    except ImportError:
        print("pydicom is not installed (pip install pydicom): its files are left out.")
        return []
    pictures = []
    for path in sorted(Path(pydicom.data.__path__[0], "test_files").glob("*.dcm")):
        try:
            values = pydicom.dcmread(path, force=True).pixel_array.astype(float)
        except Exception:  # noqa: BLE001 - many are there to be broken, or need a decoder that is not here
            continue
        if values.ndim == 4:
            values = values[0]
        if values.ndim == 3 and values.shape[-1] == 3:
            values = values.mean(axis=-1)
        if values.ndim == 3:
            values = values[len(values) // 2]
        if min(values.shape) >= 16:
            pictures.append(_stretched(values))
    return pictures


def real_photographs(count: int, random: Generator) -> list[np.ndarray]:
    """Windows of a quarter of the side and more of scikit-learn's two photographs, a temple and a flower."""
    from sklearn.datasets import load_sample_images

    wholes = [np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) for image in load_sample_images().images]
    pictures = []
    for number in range(count):
        whole = wholes[number % len(wholes)]
        side = int(random.integers(min(whole.shape) // 4, min(whole.shape)))
        y, x = (int(random.integers(length - side + 1)) for length in whole.shape)
        pictures.append(whole[y : y + side, x : x + side])
    return pictures


def digits(count: int) -> list[np.ndarray]:
    """scikit-learn's handwritten digits, enlarged: something bright on black, as a head is."""
    from sklearn.datasets import load_digits

    small = np.clip(load_digits().images[:count] * 15.9, 0, 255).astype(np.uint8)
    framed = [np.pad(picture, 2) for picture in small]
    return [np.asarray(cv2.resize(picture, (224, 224), interpolation=cv2.INTER_CUBIC)) for picture in framed]


def photograph(random: Generator) -> np.ndarray:
    """A landscape: sky, textured hills, round and square things."""
    height, width = (int(side) for side in random.integers(240, 640, 2))
    picture = np.repeat(180 + 60 * (1 - np.linspace(0, 1, height))[:, None], width, axis=1)
    along = np.arange(width) / width * 2 * np.pi
    for hill in range(int(random.integers(2, 5))):
        ridge = height * (0.35 + 0.13 * hill) + sum(
            height * 0.08 / (wave + 1) * np.sin(along * (wave + 1) * random.uniform(0.5, 2) + random.uniform(0, 7))
            for wave in range(5)
        )
        grain = random.normal(0, 25, (height // 4 + 1, width // 4 + 1)).astype(np.float32)
        ground = random.uniform(40, 150) + cv2.resize(grain, (width, height))
        picture = np.where(np.arange(height)[:, None] > ridge, ground, picture)
    for _ in range(int(random.integers(0, 12))):
        centre = (int(random.integers(width)), int(random.integers(height)))
        cv2.circle(picture, centre, int(random.integers(5, 60)), float(random.uniform(0, 255)), -1)
    for _ in range(int(random.integers(0, 8))):
        x, y, w, h = (int(random.integers(limit)) for limit in (width, height, 120, 200))
        cv2.rectangle(picture, (x, y), (x + w, y + h), float(random.uniform(0, 255)), -1)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 1) + random.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def noise(random: Generator) -> np.ndarray:
    """White, blurred, or with the spectrum of natural images."""
    side, kind = int(random.integers(150, 500)), int(random.integers(3))
    white = random.normal(size=(side, side))
    if kind == 0:
        return random.integers(0, 256, (side, side)).astype(np.uint8)
    if kind == 1:
        return _stretched(cv2.GaussianBlur(white, (0, 0), float(random.uniform(2, 20))))
    frequency = np.fft.fftfreq(side)
    radius = np.hypot(frequency[:, None], frequency[None])
    radius[0, 0] = 1
    return _stretched(np.real(np.fft.ifft2(np.fft.fft2(white) / radius)))


def text_page(random: Generator) -> np.ndarray:
    """Lines of words, dark on light or light on dark."""
    page, y = np.full((620, 480), 250, np.uint8), 30
    while y < 600:
        x = 20
        while x < 430:
            word = "".join(chr(97 + int(random.integers(26))) for _ in range(int(random.integers(2, 9))))
            cv2.putText(page, word, (x, y), cv2.FONT_HERSHEY_COMPLEX, 0.5, int(random.integers(0, 80)), 1, cv2.LINE_AA)
            x += 11 * len(word) + 8
        y += int(random.integers(18, 34))
    return 255 - page if random.random() < 0.3 else page


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, [0.5, 99.5])
    return np.clip((values - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
