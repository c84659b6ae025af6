"""What benchmarks score where no real images or model are given: 512 × 512 JPEGs of phantoms, and a network whose labels differ.

Both are the same bytes on every run, up to the versions of the libraries that make them.
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from btc_ray.images.surround import surround
from btc_ray.phantoms.phantom import LABELS, make_phantom
from btc_ray.storage import Place
from btc_ray.workers.session import available_cpus

DISTINCT = 600  # heads, each as often as it takes: painting one takes ten times as long as scoring it
QUALITY = 90
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def write_phantoms(folder: Path, count: int, *, size: int = 512) -> list[Path]:
    """`count` JPEGs of `size` × `size` pixels in `folder`, grey and three equal channels in turn, as in the Kaggle data set."""
    folder.mkdir(parents=True)
    with ProcessPoolExecutor(available_cpus(), mp_context=get_context("spawn")) as pool:
        encoded = list(pool.map(partial(_encoded, size=size), range(min(count, DISTINCT)), chunksize=8))
    paths = [folder / f"{number:06d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded[number % DISTINCT])
    return paths


def linked(paths: Sequence[Path], folder: Path) -> Path:
    """`folder` with every image of `paths` in it, numbered and without subfolders: links where the file system has them."""
    folder.mkdir(parents=True)
    for number, path in enumerate(paths):
        to = folder / f"{number:06d}{path.suffix.lower()}"
        try:
            os.link(path, to)
        except OSError:  # another file system
            shutil.copyfile(path, to)
    return folder


def write_resized(paths: Sequence[Path], folder: Path, *, size: int) -> list[Path]:
    """The same pictures as JPEGs of `size` × `size` pixels in `folder`, cubic, with the channels that they had."""
    folder.mkdir(parents=True)
    resized = [folder / f"{number:06d}.jpg" for number in range(len(paths))]
    with ProcessPoolExecutor(available_cpus(), mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_resize, size=size), paths, resized, chunksize=32))
    return resized


def images_below(folder: Path) -> list[Path]:
    """All images below a folder, by their endings, in order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def write_model(folder: Path, *, size: int = 224) -> Path:
    """A bundle whose backbone is random and whose head was fitted to its features of 120 phantoms: labels mean something, and are
    rarely a toss-up that rounding decides. Decisions too, from the same phantoms: they are timed, and mean nothing."""
    import torch

    from btc_ray.images.prepare import Preprocess, prepare
    from btc_ray.model.bundle import IMAGENET_MEAN, IMAGENET_STD, write_bundle
    from btc_ray.model.engines.folded import folded_network
    from btc_ray.model.engines.folding import FEATURES, softmax
    from btc_ray.model.weights import initial_network
    from btc_ray.training.head import head_logits
    from btc_ray.training.thresholds import choose_thresholds, fit_reference

    preprocess = Preprocess(size=size)
    state = initial_network("none", len(LABELS), seed=0).state_dict()
    found = [prepare(_encoded(number, size=256), preprocess).pixels for number in range(120)]
    crops = torch.from_numpy(np.stack([pixels for pixels in found if pixels is not None]))
    with torch.inference_mode():
        backbone = folded_network(state, mean=IMAGENET_MEAN, std=IMAGENET_STD, device="cpu", stages=True)
        pooled = torch.cat([backbone.features(batch) for batch in crops.split(8)])
    features = pooled[:, -FEATURES:].double()
    # Ridge regression of the one-hot labels on the features, times 10 so that the softmax is sure of most.
    labels = np.arange(len(features)) % len(LABELS)
    wanted = torch.eye(len(LABELS), dtype=torch.float64)[labels]
    mean = features.mean(dim=0)
    centred = features - mean
    ridge = 0.1 * centred.pow(2).sum() / centred.shape[1] * torch.eye(centred.shape[1], dtype=torch.float64)
    weight = 10 * torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (wanted - 1 / len(LABELS))).T
    state["fc.weight"], state["fc.bias"] = weight.float(), -(weight @ mean).float()
    seen = pooled.numpy()
    reference = fit_reference(seen, labels, seen)
    assert reference is not None
    sure = softmax(head_logits(state, seen), 1.0)
    decision = choose_thresholds(sure, reference.distance(seen), surround(crops.numpy()), labels)
    write_bundle(
        Place(str(folder)),
        state=state,
        classes=LABELS,
        preprocess=preprocess,
        training={},
        data={},
        metrics={},
        decision=decision,
        reference=reference,
    )
    return folder


def _resize(path: Path, to: Path, *, size: int) -> None:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"{path} is no image that OpenCV reads; leave it out of the images to time")
    to.write_bytes(_jpeg(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_CUBIC)))


def _encoded(number: int, *, size: int) -> bytes:
    pixels = make_phantom(LABELS[number % len(LABELS)], seed=number, size=(size, size)).pixels
    if number // len(LABELS) % 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    return _jpeg(pixels)


def _jpeg(pixels: np.ndarray) -> bytes:
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return data.tobytes()
