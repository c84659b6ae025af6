"""The network learns, on features as it would the slow way, and the same for the same seed whatever the number of workers."""

import pickle
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F
from safetensors.torch import save as to_safetensors
from torch import nn

from btc_ray.model.bundle import IMAGENET_MEAN, IMAGENET_STD
from btc_ray.model.network import build_network
from btc_ray.settings.recipe import RECIPES, Recipe
from btc_ray.storage import Place
from btc_ray.training.augment import FLIPS
from btc_ray.training.batchnorm import with_global_batchnorm
from btc_ray.training.features import _FeatureActor
from btc_ray.training.head import feature_statistics, fold_standardisation
from btc_ray.training.learner import Learner, make_optimizer
from btc_ray.training.loop import (
    MOST_OF_SOURCE,
    Examples,
    Result,
    evaluate,
    pack,
    source_weights,
    steps_per_epoch,
    train_epoch,
    unpack,
)

HEAD = RECIPES["head"].changed(batch_size=16, learning_rate=0.01, standardise=False)
CPU = torch.device("cpu")


def features(count: int = 101) -> Examples:
    """A prime number of examples in three classes that a line can tell apart."""
    random = np.random.default_rng(0)
    labels = random.integers(3, size=count)
    inputs = random.normal(size=(count, 4, 512)).astype(np.float32)
    inputs[np.arange(count), :, labels] += 3
    return Examples(inputs=inputs, labels=labels, copies=np.arange(count))


def images(count: int = 31, side: int = 32) -> Examples:
    """A prime number of pictures, the class being where they are bright."""
    random = np.random.default_rng(0)
    labels = random.integers(3, size=count)
    inputs = random.integers(0, 100, (count, side, side), dtype=np.uint8)
    for number, label in enumerate(labels):
        inputs[number, 10 : 10 + 8 * (label == 1), :] += 100
        inputs[number, :, 10 : 10 + 8 * (label == 2)] += 100
    return Examples(inputs=inputs, labels=labels, copies=np.arange(count))


def network(recipe: Recipe) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(512, 3) if recipe.train == "head" else build_network(3)


def trained(data: Examples, recipe: Recipe = HEAD, *, epochs: int = 3, seed: int = 0) -> tuple[Learner, list[Result]]:
    steps = steps_per_epoch(data, batch_size=recipe.batch_size, one_per_group=recipe.one_per_group)
    learner = Learner(network(recipe), recipe, steps=steps, device=CPU)
    results = [train_epoch(learner, data, classes=3, seed=seed, epoch=epoch) for epoch in range(1, epochs + 1)]
    return learner, results


def test_the_head_learns() -> None:
    data = features()
    learner, results = trained(data, epochs=10)
    assert results[-1].loss < results[0].loss / 2
    assert evaluate(learner, data, classes=3).accuracy > 0.95


@pytest.mark.parametrize("train", ["layer4", "all"])
@pytest.mark.slow
def test_the_network_learns(train: str) -> None:
    data = images()
    recipe = RECIPES[train].changed(epochs=12, batch_size=8, ema=0.5, resolutions=(32,), frozen_statistics=False)
    learner, results = trained(data, recipe, epochs=12)
    assert evaluate(learner, data, classes=3).accuracy > 0.8
    assert results[-1].loss < results[0].loss


@pytest.mark.parametrize("statistics", ["frozen", "moving"])
@pytest.mark.parametrize(("train", "still"), [("layer4", ("conv1", "bn1", "layer1", "layer2", "layer3")), ("all", ())])
@pytest.mark.slow
def test_what_is_frozen_does_not_change_its_statistics_included(train: str, still: tuple[str, ...], statistics: str) -> None:
    recipe = RECIPES[train].changed(epochs=2, batch_size=8, resolutions=(32,), frozen_statistics=statistics == "frozen")
    before = {name: tensor.clone() for name, tensor in network(recipe).state_dict().items()}
    after = trained(images(), recipe, epochs=2)[0].network.state_dict()
    for name, tensor in before.items():
        statistic = "running_" in name or "num_batches" in name
        frozen = name.partition(".")[0] in still or (statistic and recipe.frozen_statistics)
        assert torch.equal(tensor, after[name]) == frozen, name


def test_every_row_is_counted_once() -> None:
    data = features(101)
    learner, results = trained(data, epochs=1)
    for result in (evaluate(learner, data, classes=3), results[0]):
        assert result.confusion.sum() == 101
        assert result.confusion.sum(axis=1).tolist() == np.bincount(data.labels).tolist()


def test_the_same_seed_gives_the_same_network() -> None:
    first, second = trained(features())[0].network, trained(features())[0].network
    assert torch.equal(first.weight, second.weight)
    other = trained(features(), seed=1)[0].network
    assert not torch.equal(first.weight, other.weight)


def test_an_epoch_shows_one_image_of_each_group_of_copies() -> None:
    data = features(100)
    grouped = Examples(inputs=data.inputs, labels=data.labels, copies=np.arange(100) // 4)
    learner, results = trained(grouped, HEAD.changed(one_per_group=True), epochs=2)
    assert [result.confusion.sum() for result in results] == [25, 25]
    assert learner.schedule.last_epoch == 2 * 2  # 25 images in batches of at most 16


def test_training_on_features_is_the_same_mathematics_as_the_slow_way(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels, labels = random.integers(0, 256, (12, 32, 32), dtype=np.uint8), random.integers(3, size=12)
    torch.manual_seed(0)
    backbone = build_network(3).eval().requires_grad_(False)
    weights = tmp_path / "backbone.safetensors"
    weights.write_bytes(to_safetensors(backbone.state_dict()))
    actor = _FeatureActor(Place(str(weights)), FLIPS, 0.0, np.arange(12))
    rows = pa.table({"row_id": range(12), "pixels": pa.array([image.tobytes() for image in pixels], pa.binary(32 * 32))})
    inputs = np.frombuffer(b"".join(actor(rows)["features"].to_pylist()), np.float32).reshape(12, 4, 960)[..., -512:]
    recipe = HEAD.changed(batch_size=6, learning_rate=0.1, optimizer="sgd")
    fast, slow = nn.Linear(512, 3), nn.Linear(512, 3)
    slow.load_state_dict(fast.state_dict())
    learner = Learner(fast, recipe, steps=2, device=CPU)
    train_epoch(learner, Examples(inputs=inputs, labels=labels, copies=np.arange(12)), classes=3, seed=0, epoch=1)

    backbone.fc = slow.requires_grad_(True)
    optimizer = make_optimizer(list(slow.parameters()), recipe)
    grey = torch.from_numpy(pixels).unsqueeze(1).float() / 255
    normalised = (grey - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    random = np.random.default_rng([0, 1])  # the same order and the same flips
    order, flips = random.permutation(12), random.integers(4, size=12)
    for start in (0, 6):
        batch = range(start, start + 6)
        flipped = torch.stack([torch.flip(normalised[order[place]], FLIPS[flips[place]]) for place in batch])
        optimizer.zero_grad()
        F.cross_entropy(backbone(flipped), torch.from_numpy(labels[order[start : start + 6]])).backward()
        optimizer.step()
    torch.testing.assert_close(fast.weight, slow.weight, atol=1e-5, rtol=1e-3)


def test_a_head_trained_on_standardised_features_is_folded_into_one_of_plain_features() -> None:
    inputs = np.random.default_rng(0).normal(5, 3, size=(50, 4, 512)).astype(np.float32)
    inputs[:, :, 7] = 2.0  # a feature that never changes
    mean, deviation = feature_statistics(inputs)
    head = nn.Linear(512, 3)
    with torch.no_grad():
        expected = head(torch.from_numpy((inputs - mean) / deviation))
        fold_standardisation(head, mean, deviation)
        torch.testing.assert_close(head(torch.from_numpy(inputs)), expected, atol=1e-4, rtol=1e-4)


def rates(**changes: Any) -> list[float]:
    recipe = RECIPES["head"].changed(learning_rate=1.0, epochs=6, **changes)
    learner = Learner(nn.Linear(512, 3), recipe, steps=2, device=CPU)
    found = []
    for _ in range(12):
        found.append(learner.optimizer.param_groups[0]["lr"])
        learner.step(learner.network(torch.zeros(1, 512)).sum())
    return found


def test_the_step_schedule_steps() -> None:
    assert rates(step_epochs=2, step_factor=0.1) == pytest.approx([1] * 4 + [0.1] * 4 + [0.01] * 4)
    assert rates(step_epochs=0) == pytest.approx([1] * 12)


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_other_schedules_warm_up_and_fall_to_almost_nothing(schedule: str) -> None:
    found = rates(schedule=schedule, warmup=0.25)
    assert found.index(max(found)) in (2, 3)
    assert max(found) == pytest.approx(1, abs=0.1)
    assert found[-1] < 0.1


def test_class_weights_make_classes_count_the_same() -> None:
    data = features(100)
    few = np.concatenate([np.flatnonzero(data.labels == 0), np.flatnonzero(data.labels == 1)[:4]])
    skewed = Examples(inputs=data.inputs[few] * 0.1, labels=data.labels[few], copies=few)
    plain = evaluate(trained(skewed, epochs=4)[0], skewed, classes=3).confusion
    weighted = evaluate(trained(skewed, HEAD.changed(class_weights=True), epochs=4)[0], skewed, classes=3).confusion
    assert weighted[1, 1] > plain[1, 1]


@pytest.mark.slow
def test_a_checkpoint_is_read_without_executing_code_and_training_goes_on_exactly_there() -> None:
    recipe = RECIPES["all"].changed(epochs=3, batch_size=8, resolutions=(24, 32))
    whole = trained(images(), recipe, epochs=3)[0]
    state = unpack(pack(trained(images(), recipe, epochs=2)[0].state()))
    resumed = Learner(network(recipe), recipe, steps=4, device=CPU)
    resumed.load(state)
    train_epoch(resumed, images(), classes=3, seed=0, epoch=3)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def _work(data: Examples, recipe: Recipe) -> tuple[dict[str, np.ndarray], list[float], int]:
    learner, results = trained(data, recipe, epochs=2)
    found = evaluate(learner, data, classes=3)
    weights = {name: tensor.detach().numpy() for name, tensor in learner.model.state_dict().items()}
    return weights, [result.loss for result in results] + [found.loss], int(found.confusion.sum())


def _worker(rank: int, workers: int, port: int, kinds: tuple[str, ...], results: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    found = {kind: _work(*CASES[kind]) for kind in kinds}
    if rank == 0:
        results.write_bytes(pickle.dumps(found))
    dist.destroy_process_group()


SMALL_STEPS = RECIPES["all"].changed(epochs=2, optimizer="sgd", learning_rate=0.001, ema=0.9)
CASES = {
    "head": (features(), HEAD),
    # Batches of five over three workers: unequal shares.
    "frozen": (images(), SMALL_STEPS.changed(batch_size=5, resolutions=(24, 32))),
    # Variances of few small numbers would make rounding large: more images, and larger ones.
    "moving": (images(47, side=64), SMALL_STEPS.changed(batch_size=16, resolutions=(64,), frozen_statistics=False)),
}


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """What one process comes to."""
    return {kind: _work(*case) for kind, case in CASES.items()}


@pytest.mark.parametrize(("workers", "kinds"), [(2, ("head", "moving")), (3, ("head", "frozen", "moving"))])
@pytest.mark.slow
def test_the_number_of_workers_changes_nothing_but_rounding(
    workers: int, kinds: tuple[str, ...], alone: dict[str, Any], tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    results = tmp_path / "results"
    multiprocessing.spawn(_worker, args=(workers, port, kinds, results), nprocs=workers)  # type: ignore[attr-defined]
    together = pickle.loads(results.read_bytes())
    assert tuple(together) == kinds
    for kind, (weights, losses, counted) in together.items():
        expected, losses_alone, rows = alone[kind]
        assert counted == rows == len(CASES[kind][0].labels)
        assert losses == pytest.approx(losses_alone, rel=1e-3), kind
        for name, value in expected.items():
            np.testing.assert_allclose(weights[name], value, atol=1e-5 if kind == "head" else 2e-3, err_msg=f"{kind} {name}")


def _normalise(rank: int, workers: int, port: int, images: torch.Tensor, results: Path) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    layer = with_global_batchnorm(nn.Sequential(nn.BatchNorm2d(images.shape[1]))).train()
    found = layer(images[rank::workers])
    if rank == 0:
        results.write_bytes(pickle.dumps((found.detach(), layer[0].running_mean, layer[0].running_var)))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_two_workers_normalise_as_one_does_whatever_their_precision(kind: torch.dtype, tmp_path: Path) -> None:
    """In bfloat16 a count beyond 256 or the sum of many pixels would be wrong by a percent and more."""
    images = (torch.randn(6, 3, 40, 41, generator=torch.Generator().manual_seed(0)) * 3 + 1).to(kind)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_normalise, args=(2, port, images, tmp_path / "results"), nprocs=2)  # type: ignore[attr-defined]
    found, mean, variance = pickle.loads((tmp_path / "results").read_bytes())
    alone = nn.BatchNorm2d(3).train()
    expected = alone(images.float())[::2]
    assert found.dtype == kind
    torch.testing.assert_close(found.float(), expected, atol=1e-5 if kind == torch.float32 else 2e-2, rtol=1e-2)
    torch.testing.assert_close(mean, alone.running_mean)
    torch.testing.assert_close(variance, alone.running_var)


def test_small_sources_weigh_more_and_all_weigh_one_on_average() -> None:
    weights = source_weights(np.array([7, 7, 7, 7, 7, 7, 7, 7, 7, 2]))
    assert weights.dtype == np.float32
    assert weights.mean() == pytest.approx(1, rel=1e-6)
    assert weights[-1] / weights[0] == pytest.approx(3)  # the square root of 9 to 1
    assert source_weights(np.zeros(5, int)).tolist() == [1] * 5
    weights = source_weights(np.array([0] * 100 + [1]))
    assert weights[-1] / weights[0] == pytest.approx(MOST_OF_SOURCE)


def test_a_small_source_is_learned_from_where_sources_are_balanced_and_nothing_changes_where_none_is_named() -> None:
    data = features(200)
    labels = data.labels.copy()
    labels[:10] = (labels[:10] + 1) % 3  # a source of ten images that contradicts the others
    sources = (np.arange(200) >= 10).astype(np.int64)
    told = replace(data, labels=labels, sources=sources)

    def loss_of_the_small_source(recipe: Recipe, given: Examples) -> float:
        learner, _ = trained(given, recipe, epochs=3)
        few = Examples(inputs=given.inputs[:10], labels=labels[:10], copies=np.arange(10))
        return evaluate(learner, few, classes=3).loss

    balanced, plain = HEAD, HEAD.changed(balance_sources=False)
    assert loss_of_the_small_source(balanced, told) < loss_of_the_small_source(plain, told)
    nameless = replace(told, sources=None)
    assert loss_of_the_small_source(balanced, nameless) == loss_of_the_small_source(plain, told)
