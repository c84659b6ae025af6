"""The head learns, on features as it would the slow way, and the same for the same seed whatever the number of workers."""

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F
from torch import nn

from btc_ray.model.bundle import IMAGENET_MEAN, IMAGENET_STD
from btc_ray.model.network import build_network
from btc_ray.settings import Retrain
from btc_ray.training.features import FLIPS, _FeatureActor
from btc_ray.training.loop import Examples, evaluate, make_optimizer, make_schedule, pack, train_epoch, unpack
from btc_ray.training.trainer import fold_standardisation, moments

SETTINGS = Retrain(data="-", output="-", batch_size=16, learning_rate=0.01)


def examples(count: int = 101) -> Examples:
    """A prime number of examples in three classes that a line can tell apart."""
    random = np.random.default_rng(0)
    labels = random.integers(3, size=count)
    features = random.normal(size=(count, 4, 512)).astype(np.float32)
    features[np.arange(count), :, labels] += 3
    return Examples(features=features, labels=labels)


def trained(data: Examples, settings: Retrain = SETTINGS, epochs: int = 3) -> tuple[nn.Linear, list[float]]:
    torch.manual_seed(0)
    head = nn.Linear(512, 3)
    optimizer = make_optimizer(list(head.parameters()), settings)
    losses = [train_epoch(head, optimizer, data, settings, epoch=epoch) for epoch in range(epochs)]
    return head, losses


def test_the_head_learns() -> None:
    data = examples()
    head, losses = trained(data, epochs=10)
    assert losses[-1] < losses[0] / 2
    assert evaluate(head, data, classes=3).accuracy > 0.95


def test_every_row_is_counted_once() -> None:
    data = examples(101)
    result = evaluate(nn.Linear(512, 3), data, classes=3)
    assert result.confusion.sum() == 101
    assert result.confusion.sum(axis=1).tolist() == np.bincount(data.labels).tolist()


def test_the_same_seed_gives_the_same_head() -> None:
    first, second = trained(examples())[0], trained(examples())[0]
    assert torch.equal(first.weight, second.weight)
    other, _ = trained(examples(), Retrain(data="-", output="-", batch_size=16, learning_rate=0.01, seed=1))
    assert not torch.equal(first.weight, other.weight)


def test_training_on_features_is_the_same_mathematics_as_the_slow_way() -> None:
    random = np.random.default_rng(0)
    pixels, labels = random.integers(0, 256, (12, 32, 32), dtype=np.uint8), random.integers(3, size=12)
    torch.manual_seed(0)
    network = build_network(3).eval().requires_grad_(False)
    actor = _FeatureActor(network.state_dict(), FLIPS)
    rows = pa.table({"row_id": range(12), "pixels": pa.array([image.tobytes() for image in pixels], pa.binary(32 * 32))})
    features = np.frombuffer(b"".join(actor(rows)["features"].to_pylist()), np.float32).reshape(12, 4, 512)
    data = Examples(features=features, labels=labels)
    settings = Retrain(data="-", output="-", batch_size=5, learning_rate=0.1, optimizer="sgd")
    head = nn.Linear(512, 3)
    slow = nn.Linear(512, 3)
    slow.load_state_dict(head.state_dict())
    train_epoch(head, make_optimizer(list(head.parameters()), settings), data, settings, epoch=1)

    network.fc = slow.requires_grad_(True)
    optimizer = make_optimizer(list(slow.parameters()), settings)
    grey = torch.from_numpy(pixels).unsqueeze(1).float() / 255
    images = (grey - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    random = np.random.default_rng([settings.seed, 1])  # the same order and the same flips
    order, flips = random.permutation(12), random.integers(4, size=12)
    for start in range(0, 12, 5):
        batch = order[start : start + 5]
        flipped = torch.stack([torch.flip(images[index], FLIPS[flips[index]]) for index in batch])
        optimizer.zero_grad()
        F.cross_entropy(network(flipped), torch.from_numpy(labels[batch])).backward()
        optimizer.step()
    torch.testing.assert_close(head.weight, slow.weight, atol=1e-5, rtol=1e-3)


def test_a_head_trained_on_standardised_features_is_folded_into_one_of_plain_features() -> None:
    features = np.random.default_rng(0).normal(5, 3, size=(50, 4, 512)).astype(np.float32)
    features[:, :, 7] = 2.0  # a feature that never changes
    mean, deviation = moments(features)
    head = nn.Linear(512, 3)
    with torch.no_grad():
        expected = head(torch.from_numpy((features - mean) / deviation))
        fold_standardisation(head, mean, deviation)
        torch.testing.assert_close(head(torch.from_numpy(features)), expected, atol=1e-4, rtol=1e-4)


def test_the_step_schedule_steps() -> None:
    settings = Retrain(data="-", output="-", step_epochs=2, step_factor=0.1, learning_rate=1.0)
    optimizer = make_optimizer([nn.Parameter(torch.zeros(1))], settings)
    schedule = make_schedule(optimizer, settings)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_a_checkpoint_is_read_without_executing_code() -> None:
    head, _ = trained(examples(), epochs=1)
    state = unpack(pack({"epoch": 3, "head": head.state_dict()}))
    assert state["epoch"] == 3
    assert torch.equal(state["head"]["weight"], head.weight)


def _worker(rank: int, workers: int, port: int, results: "multiprocessing.SimpleQueue[tuple[np.ndarray, float, int]]") -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    head, losses = trained(examples())
    result = evaluate(head, examples(), classes=3)
    if rank == 0:
        results.put((head.weight.detach().numpy(), losses[-1], int(result.confusion.sum())))
    dist.destroy_process_group()


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_nothing_but_rounding(workers: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    multiprocessing.spawn(_worker, args=(workers, port, results), nprocs=workers)  # type: ignore[attr-defined]
    weight, loss, counted = results.get()
    alone, losses = trained(examples())
    np.testing.assert_allclose(weight, alone.weight.detach().numpy(), atol=1e-5)
    assert loss == pytest.approx(losses[-1], abs=1e-5)
    assert counted == 101
