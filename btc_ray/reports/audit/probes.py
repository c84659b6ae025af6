"""Can the class be told without looking at the lesion? Small classifiers that see only grey levels, border, outline or a thumbnail.

What such a probe gets right is a shortcut that any network may take too (Geirhos et al., Shortcut learning, 2020).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from btc_ray.reports.shared.bootstrap import grouped_share, wilson

MOST_LEARNED, MOST_ASKED = 20_000, 5_000  # images; of more a random choice: 100,000 take no longer, and no more memory
_THUMBNAIL = 8  # px
_OUTLINE = 24  # px
_RIM = 2  # px of 64: 3 % of the side

TITLES = {
    "histogram": "Grey histogram",
    "border": "Border",
    "silhouette": "Silhouette",
    "thumbnail": "Thumbnail of 8 × 8 pixels",
    "neighbour": "Nearest neighbour, 64 × 64 pixels",
}
SENTENCES = {
    "histogram": "How many pixels are how bright, in 32 bins; nothing of where they are.",
    "border": f"The outermost {_RIM} of 64 pixels on each side; nothing of the head but what touches the edge.",
    "silhouette": "Where there is head and where air, filled, 24 × 24; nothing of what is inside.",
    "thumbnail": "The whole frame shrunk to 8 × 8 pixels, where a tumour is a dot or nothing.",
    "neighbour": "The label of the training image with the least squared difference of raw pixels: memory alone.",
}
PUBLISHED, CLEAN, GROUP = "published", "published_without_copies", "group"


@dataclass(frozen=True, kw_only=True)
class Sides:
    """One way to divide the images: bool (N,) each, no image in both."""

    train: np.ndarray
    test: np.ndarray

    def sample(self, *, seed: int) -> "Sides":
        """At most MOST_LEARNED of the one and MOST_ASKED of the other, drawn at random."""
        return Sides(train=_some(self.train, MOST_LEARNED, seed), test=_some(self.test, MOST_ASKED, seed))

    def of(self, rows: np.ndarray) -> "Sides":
        """For some of the images, their positions given."""
        return Sides(train=self.train[rows], test=self.test[rows])


def run_probes(
    frames: np.ndarray,
    histograms: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    sides: dict[str, Sides],
    copied: np.ndarray,
    classes: Sequence[str],
    *,
    seed: int = 0,
    announce: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Train and ask each probe on each division.

    Args:
        frames: uint8 (N, 64, 64), whole frames.
        histograms: float32 (N, 32).
        labels: int (N,), positions in `classes`.
        groups: int (N,), equal for images that are not independent; intervals are resampled by them.
        sides: by PUBLISHED and GROUP, those that there are, all of whose images are used: `Sides.sample` bounds the work.
        copied: bool (N,), test images of the published split with a copy in its training images: CLEAN counts the others.
        announce: gets the title of each probe before it runs.

    Returns:
        A record for each probe: key, title, sentence, and `results` by division: `accuracy` and `chance` (the share of the largest
        class among the images asked) with interval, `by_class` (sensitivity), `images`, `learned`; or the `reason` of none.
    """
    records = []
    for key, inputs in _inputs(frames, histograms).items():
        announce(TITLES[key])
        results: dict[str, Any] = {}
        for name, division in sides.items():
            train, test = np.flatnonzero(division.train), np.flatnonzero(division.test)
            if len(np.unique(labels[train])) < 2 or not len(test):
                results[name] = {"reason": "needs training images of two classes and a test image"}
                continue
            said = _answers(key, inputs, labels, train, test, seed)
            results[name] = _result(labels[test], said, groups[test], classes, len(train), seed)
            if name == PUBLISHED:
                clean = ~copied[test]
                results[CLEAN] = _result(labels[test][clean], said[clean], groups[test][clean], classes, len(train), seed)
        records.append({"key": key, "title": TITLES[key], "sentence": SENTENCES[key], "results": results})
    return records


def _inputs(frames: np.ndarray, histograms: np.ndarray) -> dict[str, np.ndarray]:
    """What each probe sees, a row an image; `neighbour` stays uint8 until it is asked."""
    return {
        "histogram": histograms,
        "border": np.stack([border(frame) for frame in frames]) if len(frames) else np.zeros((0, 64), np.float32),
        "silhouette": np.stack([silhouette(frame).ravel() for frame in frames]) if len(frames) else np.zeros((0, 1), np.float32),
        "thumbnail": _pooled(frames, frames.shape[1] // _THUMBNAIL).reshape(len(frames), -1),
        "neighbour": frames.reshape(len(frames), -1),
    }


def silhouette(frame: np.ndarray) -> np.ndarray:
    """Head or air, without holes: float32 (24, 24), the share of each cell that is head. `frame` is uint8 (64, 64)."""
    low, high = np.percentile(frame, (5, 99))
    mask = (cv2.GaussianBlur(frame, (3, 3), 0) > low + 0.12 * max(high - low, 1)).astype(np.uint8)
    outlines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    filled = cv2.drawContours(np.zeros_like(mask), outlines, -1, 255, cv2.FILLED)
    return np.asarray(cv2.resize(filled, (_OUTLINE, _OUTLINE), interpolation=cv2.INTER_AREA), np.float32) / 255


def border(frame: np.ndarray) -> np.ndarray:
    """float32 (64,): the four edges of a frame, uint8 (64, 64), in stretches of 4 pixels."""
    edges = [frame[:_RIM], frame[-_RIM:], frame[:, :_RIM].T, frame[:, -_RIM:].T]
    return np.concatenate([edge.astype(np.float32).mean(axis=0).reshape(16, -1).mean(axis=1) for edge in edges])


def _pooled(frames: np.ndarray, cell: int) -> np.ndarray:
    side = frames.shape[1] // cell
    return frames.reshape(len(frames), side, cell, side, cell).mean(axis=(2, 4), dtype=np.float32)


def _some(side: np.ndarray, most: int, seed: int) -> np.ndarray:
    rows = np.flatnonzero(side)
    if len(rows) <= most:
        return side
    kept = np.zeros(len(side), bool)
    kept[np.random.default_rng(seed).choice(rows, most, replace=False)] = True
    return kept


def _answers(key: str, inputs: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """The labels that a probe gives to `test`."""
    if key == "neighbour":
        return _nearest(inputs, labels, train, test)
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if key == "silhouette":  # 576 numbers, most of them alike: trees would be slow and no better
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    else:
        probe = HistGradientBoostingClassifier(max_iter=80, max_leaf_nodes=15, early_stopping=False, random_state=seed)
    # One thread: OpenMP's wait for each other by spinning, and beside other work a second on one core became 26 s on two.
    with threadpool_limits(1):
        return np.asarray(probe.fit(inputs[train], labels[train]).predict(inputs[test]))


def _nearest(inputs: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    import faiss

    index = faiss.IndexFlatL2(inputs.shape[1])
    for start in range(0, len(train), 4096):  # 67 MB of float32
        index.add(inputs[train[start : start + 4096]].astype(np.float32))
    nearest = index.search(inputs[test].astype(np.float32), 1)[1][:, 0]
    return labels[train[nearest]]


def _result(
    truth: np.ndarray, said: np.ndarray, groups: np.ndarray, classes: Sequence[str], learned: int, seed: int
) -> dict[str, Any]:
    if not len(truth):
        return {"reason": "no images"}
    right = truth == said
    counts = np.bincount(truth, minlength=len(classes))
    return {
        "images": len(truth),
        "learned": learned,
        "accuracy": grouped_share(right, groups, seed=seed),
        "chance": float(counts.max() / len(truth)),
        "by_class": {
            name: wilson(int(right[truth == number].sum()), int(counts[number]), missing=f"no images of {name}")
            for number, name in enumerate(classes)
        },
    }
