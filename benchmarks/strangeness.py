"""Which distance tells strangers best? The one that bundles use beside others of the literature, for three kinds of strangers apart.

    python -m benchmarks.strangeness --model BUNDLE --data DATA [--near NAME=DIR …] [--scanners NAME=DIR …] [--most 800]

Far strangers are made by code (`benchmarks.strangers`); near ones are other heads, and `--scanners` has images of the same classes from
elsewhere, of which a good score may let pass more, for their labels may be right. Means, covariances and subspaces are of training
images by the bundle's `split.parquet`; the threshold keeps 95 % of its validation images. "AUROC": against its test images. "kept":
below the threshold.

- last: Mahalanobis distance to the nearest class mean in the last features (Lee et al. 2018), as bundles of before 0.2.0 have it
- stages: the mean over the four stages of a ResNet of such distances in their pooled features, each in validation's typical distances (Lee
  et al. 2018's ensemble, with equal weights since there are no strangers to fit them to), as bundles have it
- ViM: the part of the features outside of their principal subspace, scaled, less the logits' log-sum-exp (Wang et al., CVPR 2022)
- energy: -log-sum-exp of the logits (Liu et al. 2020)
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

from benchmarks.inputs import SUFFIXES
from benchmarks.strangers import strangers
from btc_ray.images.prepare import Preprocess, prepare
from btc_ray.model.bundle import Bundle, read_bundle, read_weights
from btc_ray.model.network import build_network
from btc_ray.storage import Place
from btc_ray.training.thresholds import fit_reference

STAGES = ("layer1", "layer2", "layer3", "layer4")
SUBSPACE = 128  # of 512 dimensions; the paper takes 512 of 2,048 and half of 768
BATCH = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What a network makes of N images: the pooled features of its stages, float32 (N, 64 … 512), the last being what the head sees, and
    float64 (N, classes) logits."""

    stages: tuple[np.ndarray, ...]
    logits: np.ndarray

    @property
    def features(self) -> np.ndarray:
        return self.stages[-1]


class Network:
    """A bundle's network with its stages laid open."""

    def __init__(self, place: Place) -> None:
        self.bundle: Bundle = read_bundle(place)
        self.preprocess = Preprocess.from_dict(self.bundle.preprocess)
        self._network = build_network(len(self.bundle.classes)).eval()
        self._network.load_state_dict(read_weights(place, self.bundle))
        self._mean, self._std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.bundle.mean, self.bundle.std))
        self._pooled: dict[str, torch.Tensor] = {}
        for name in STAGES:
            getattr(self._network, name).register_forward_hook(self._keeping(name))

    def _keeping(self, name: str):
        def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
            self._pooled[name] = output.mean(dim=(2, 3))

        return keep

    def see(self, contents: Sequence[bytes]) -> Seen:
        """The files' images; those that cannot be read are left out."""
        crops = [image.pixels for content in contents if (image := prepare(content, self.preprocess)).pixels is not None]
        pieces: list[list[np.ndarray]] = []
        with torch.inference_mode():
            for start in range(0, len(crops), BATCH):
                grey = torch.from_numpy(np.stack(crops[start : start + BATCH])).float()[:, None].expand(-1, 3, -1, -1) / 255
                logits = self._network((grey - self._mean) / self._std)
                pieces.append([*(self._pooled[name].numpy() for name in STAGES), logits.double().numpy()])
        *stages, logits = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        return Seen(stages=tuple(stages), logits=logits)


class Scores:
    """The scores, the higher the stranger, fitted to training images and scaled by validation images."""

    def __init__(self, train: Seen, labels: np.ndarray, validation: Seen) -> None:
        reference = fit_reference(np.concatenate(train.stages, axis=1), labels, np.concatenate(validation.stages, axis=1))
        assert reference is not None
        self._reference = reference
        self._mean = train.features.mean(axis=0)
        centred = train.features.astype(float) - self._mean
        self._outside = np.linalg.eigh(centred.T @ centred)[1][:, : centred.shape[1] - SUBSPACE]
        self._alpha = logsumexp(train.logits, axis=1).mean() / np.linalg.norm(centred @ self._outside, axis=1).mean()

    def of(self, seen: Seen) -> dict[str, np.ndarray]:
        centred = seen.features.astype(float) - self._mean
        stages = np.concatenate(seen.stages, axis=1)
        energy = -logsumexp(seen.logits, axis=1)
        return {
            "last": self._reference.distances(stages)[-1],
            "stages": self._reference.distance(stages),
            "ViM": self._alpha * np.linalg.norm(centred @ self._outside, axis=1) + energy,
            "energy": energy,
        }


def files_of(folder: Path, most: int) -> list[bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [path.read_bytes() for path in _some(paths, most)]


def _some(items: list[Path], most: int) -> list[Path]:
    return [items[place] for place in np.random.default_rng(0).permutation(len(items))[:most]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True, help="what the bundle was trained from, in the Kaggle layout")
    parser.add_argument("--near", nargs="*", default=[])
    parser.add_argument("--scanners", nargs="*", default=[])
    parser.add_argument("--most", type=int, default=800, help="training images, and a quarter of it of every other kind")
    chosen = parser.parse_args()
    network = Network(Place(chosen.model))
    split = pq.read_table(Path(chosen.model) / "split.parquet").to_pandas()
    seen, labels = {}, np.empty(0)
    for name, most in (("train", chosen.most), ("validation", chosen.most // 4), ("test", chosen.most // 4)):
        rows = split[split["split"] == name].sample(frac=1, random_state=0).head(most)
        # The data may have moved since: the last folders tell the file.
        seen[name] = network.see([chosen.data.joinpath(*uri.split("/")[-3:]).read_bytes() for uri in rows["uri"]])
        labels = rows["label"].to_numpy() if name == "train" else labels
    scores = Scores(seen["train"], np.unique(labels, return_inverse=True)[1], seen["validation"])
    own = {name: scores.of(seen[name]) for name in ("validation", "test")}
    limits = {name: float(np.quantile(values, 0.95)) for name, values in own["validation"].items()}
    asked: list[tuple[str, str, list[bytes]]] = []
    for kind, pictures in strangers(max(1, chosen.most // 16)).items():
        encoded = [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]
        asked.append(("near" if kind == "phantoms of heads" else "far", kind, encoded))
    for kind in ("near", "scanners"):
        for name, _, folder in (text.partition("=") for text in getattr(chosen, kind)):
            asked.append((kind, name, files_of(Path(folder), chosen.most // 4)))
    print(
        f"{len(seen['train'].logits):,} training, {len(seen['validation'].logits):,} validation, {len(seen['test'].logits):,} test images\n"
    )
    print(
        f"| kind | of | images | {' | '.join(f'{name}: AUROC, kept' for name in limits)} |\n|---|---|---|{'---|' * len(limits)}"
    )
    test = {name: values <= limits[name] for name, values in own["test"].items()}
    print(
        f"| its own | test images | {len(seen['test'].logits):,} | {' | '.join(f'–, {kept.mean():.0%}' for kept in test.values())} |"
    )
    for kind, name, contents in asked:
        if not contents:
            continue
        found = scores.of(network.see(contents))
        cells = []
        for key, values in found.items():
            truth = np.r_[np.zeros(len(own["test"][key])), np.ones(len(values))]
            cells.append(f"{roc_auc_score(truth, np.r_[own['test'][key], values]):.3f}, {(values <= limits[key]).mean():.0%}")
        print(f"| {kind} | {name} | {len(values):,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
