"""Features of a backbone under the four flips, computed by Ray Data (of few images in this process).

Workers load this module, and importing torchvision would take each of them 2 s: nothing here may. The tests hold this.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import ray
import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from btc_ray.dataset.crops import Crops
from btc_ray.images.batch import pixels_of
from btc_ray.model.bundle import IMAGENET_MEAN, IMAGENET_STD
from btc_ray.model.engines.choose import choose
from btc_ray.model.engines.folded import folded_network
from btc_ray.model.engines.folding import FEATURES, POOLED, fold
from btc_ray.progress import Progress, say
from btc_ray.storage import Place
from btc_ray.training.appearance import changed_crops
from btc_ray.training.augment import FLIPS
from btc_ray.workers.pool import Pool
from btc_ray.workers.rows import map_to_driver

LEAST_PASSES = 256  # of a worker on a CPU: 2.5 s of a core at 224 px, and its start takes 4
FEW_PASSES = 256  # at 224 px: fewer are not worth a worker
BATCH = 16  # on a CPU


def backbone_id(backbone: Mapping[str, Tensor]) -> str:
    """The first 16 hex digits of a sha256 over names and values."""
    digest = hashlib.sha256()
    for name in sorted(backbone):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(backbone[name].detach().cpu().numpy()).tobytes())
    return digest.hexdigest()[:16]


class _Backbone:
    """The frozen backbone in fp32, by the engine that scores: OpenVINO on x86 CPUs where it is installed, else torch."""

    def __init__(
        self,
        backbone: Mapping[str, Tensor],
        variants: tuple[tuple[int, ...], ...],
        appearance: float,
        *,
        threads: int | None = None,
    ) -> None:
        no_head = {"fc.weight": torch.empty(0, FEATURES), "fc.bias": torch.empty(0)}
        state = {**backbone, **no_head}
        choice = choose(precision="fp32")
        self._features = _in_openvino(state, threads) if choice.engine == "openvino" else _in_torch(state, choice.device, threads)
        self._variants, self._appearance = variants, appearance

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S) crops → float32 (N, V, 960)."""
        found = np.empty((len(pixels), len(self._variants), POOLED), np.float32)
        if len(pixels):
            # One variant after the other: four times the batch would take four times the memory and be no faster.
            for number, axes in enumerate(self._variants):
                shown = changed_crops(pixels, self._appearance, view=number) if self._appearance else pixels
                found[:, number] = self._features(np.ascontiguousarray(np.flip(shown, axes)))
        return found


def _in_torch(state: Mapping[str, Tensor], device: str, threads: int | None) -> Callable[[np.ndarray], np.ndarray]:
    if threads is not None:
        torch.set_num_threads(threads)
    network = folded_network(state, mean=IMAGENET_MEAN, std=IMAGENET_STD, device=device, stages=True)

    def features(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network.features(torch.from_numpy(pixels).to(device)).cpu().numpy()

    return features


def _in_openvino(state: Mapping[str, Tensor], threads: int | None) -> Callable[[np.ndarray], np.ndarray]:
    from btc_ray.model.engines.openvino_engine import Compiled
    from btc_ray.model.engines.openvino_graph import resnet18

    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}
    graph = resnet18(fold(arrays, mean=IMAGENET_MEAN, std=IMAGENET_STD), stages=True)
    return Compiled(graph, precision="fp32", threads=threads)


class _FeatureActor:
    def __init__(self, weights: Place, variants: tuple[tuple[int, ...], ...], appearance: float, row_ids: np.ndarray) -> None:
        self._backbone = _Backbone(from_safetensors(weights.read()), variants, appearance, threads=1)
        self._row_ids = row_ids

    def __call__(self, batch: pa.Table) -> pa.Table:
        batch = batch.filter(pa.array(np.isin(np.asarray(batch["row_id"]), self._row_ids)))
        features = self._backbone.features(pixels_of(batch).copy())
        packed = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(4 * features.shape[1] * POOLED), len(batch), [None, pa.py_buffer(features)]
        )
        return pa.table({"row_id": batch["row_id"], "features": packed})


@contextmanager
def _stored(backbone: Mapping[str, Tensor], beside: Place) -> Iterator[Place]:
    """The weights as a file that every node can read, while they are wanted.

    As arguments of the actors they were 45 MB in the object store of every node: one that had little room, or had just lost its
    neighbour, never started its actors, and the job waited for ever.
    """
    file = beside.beside(f"{beside.name}-backbone-{uuid.uuid4().hex[:12]}.safetensors")
    file.write(to_safetensors({name: tensor.detach().cpu().contiguous() for name, tensor in backbone.items()}))
    try:
        yield file
    finally:
        try:
            file.remove()
        except OSError as error:  # what was computed is worth more than the room
            say(f"{file} could not be removed ({error}); it is not needed any more.")


def backbone_features(
    crops: Crops,
    backbone: Mapping[str, Tensor],
    *,
    variants: tuple[tuple[int, ...], ...] = FLIPS[:1],
    appearance: float = 0.0,
    row_ids: np.ndarray | None = None,
    words: str = "",
) -> np.ndarray:
    """What the last layer sees of the crops, or of those with `row_ids` (rising): float32 (N, V, 960). Needs a Ray that is joined.

    Few and small images are done in this process, sooner than a worker would have started. `appearance`: the probability of each change
    of that name to each picture, the same ones whenever the picture is the same. `words`: after what the line of progress says.
    """
    row_ids = np.asarray(crops.rows["row_id"]) if row_ids is None else row_ids
    passes = len(row_ids) * len(variants)
    if passes * (crops.size / 224) ** 2 <= FEW_PASSES and not ray.cluster_resources().get("GPU"):
        return _here(crops, backbone, variants, appearance, row_ids)
    pool = Pool.of_cluster(use_gpus=True).for_rows(passes, each=LEAST_PASSES)
    features = np.empty((len(row_ids), len(variants), POOLED), np.float32)
    done = 0
    with (
        _stored(backbone, crops.folder) as weights,
        Progress(f"Features under {len(variants)} flips{words}", len(row_ids)) as progress,
    ):
        found = map_to_driver(
            *(crops.folder, _FeatureActor, weights, variants, appearance, row_ids),
            columns=("row_id", "pixels"),
            pool=pool,
            batch=256 if pool.gpus else BATCH,
        )
        for batch in found:
            values = np.frombuffer(b"".join(batch["features"].to_pylist()), np.float32).reshape(-1, len(variants), POOLED)
            features[np.searchsorted(row_ids, np.asarray(batch["row_id"]))] = values
            done += len(batch)
            progress.advance(len(batch))
    if done < len(row_ids):
        raise RuntimeError(f"{crops.folder} lacks {len(row_ids) - done:,} crops that were there before. Run again.")
    return features


def _here(
    crops: Crops,
    backbone: Mapping[str, Tensor],
    variants: tuple[tuple[int, ...], ...],
    appearance: float,
    row_ids: np.ndarray,
) -> np.ndarray:
    """`backbone_features` in this process."""
    network = _Backbone(backbone, variants, appearance)
    positions = np.searchsorted(np.asarray(crops.rows["row_id"]), row_ids)
    parts = [positions[start : start + BATCH] for start in range(0, len(positions), BATCH)]
    found = [network.features(crops.pixels[part]) for part in parts]
    return np.concatenate(found) if found else np.empty((0, len(variants), POOLED), np.float32)
