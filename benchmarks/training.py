"""The speed of an epoch: `btc-ray retrain`'s loop on Ray Train beside a bare PyTorch loop doing the same work, in one run.

The same network in fp32, images, batches, flips, optimizer, clipping, schedule and moving average, each as PyTorch has it; the bare
loop has no metrics and no checkpoints. The two take turns, so that a machine that slows down slows both.
"""

import argparse
import os
import statistics
import tempfile
import time

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from btc_ray.model.bundle import IMAGENET_MEAN, IMAGENET_STD
from btc_ray.model.network import build_network
from btc_ray.phantoms.phantom import LABELS, make_phantom
from btc_ray.settings.recipe import RECIPES
from btc_ray.storage import Place
from btc_ray.training.loop import Examples
from btc_ray.training.trainer import choose_scaling, fit
from btc_ray.workers.session import available_cpus, joined

EPOCHS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1280)
    parser.add_argument("--size", type=int, default=128, help="side in pixels")
    parser.add_argument("--turns", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(available_cpus())
    # Ray's workers give way to all other processes (nice 15), and so to whatever else the machine does: the bare loop does not.
    os.environ.setdefault("RAY_worker_niceness", "0")
    data = _phantoms(chosen.images, chosen.size)
    state = build_network(len(LABELS)).state_dict()
    recipe = RECIPES["all"].changed(
        epochs=EPOCHS,
        resolutions=(chosen.size,),
        rotate=0.0,
        scale=0.0,
        shift=0.0,
        intensity=0.0,
        erase=0.0,
        one_per_group=False,
        frozen_statistics=False,
    )
    bare: list[float] = []
    ours: list[float] = []
    few = Examples(inputs=data.inputs[:8], labels=data.labels[:8], copies=data.copies[:8])  # validation is not what is compared
    with joined(None):
        for turn in range(chosen.turns):
            bare += _bare(data, state, recipe.batch_size)
            with tempfile.TemporaryDirectory() as folder:
                fitted = fit(
                    recipe,
                    {"train": data, "validation": few},
                    state,
                    classes=len(LABELS),
                    seed=0,
                    name=f"benchmark-{turn}",
                    folder=Place(folder),
                    scaling=choose_scaling(None),
                    precision="fp32",
                )
            ours += [row["seconds"] for row in fitted.history if row["split"] == "train"]
    print(f"{chosen.images} images of {chosen.size} × {chosen.size}, {EPOCHS} epochs, {chosen.turns} turns each")
    for name, seconds in (("bare PyTorch", bare), ("btc-ray on Ray Train", ours)):
        rates = sorted(chosen.images / second for second in seconds)
        print(f"{name:<22} {statistics.median(rates):6.1f} images/s (from {rates[0]:.1f} to {rates[-1]:.1f})")
    print(f"ratio of the medians   {statistics.median(bare) / statistics.median(ours):.3f}")


def _phantoms(count: int, size: int) -> Examples:
    heads = (make_phantom(LABELS[number % len(LABELS)], seed=number, size=(256, 256)).pixels for number in range(count))
    pixels = np.stack([cv2.resize(head, (size, size), interpolation=cv2.INTER_AREA) for head in heads])
    return Examples(inputs=pixels, labels=np.arange(count) % len(LABELS), copies=np.arange(count))


def _bare(data: Examples, state: dict[str, torch.Tensor], batch_size: int) -> list[float]:
    """The seconds of each epoch of a loop as a tutorial has it."""
    network = build_network(len(LABELS)).to(memory_format=torch.channels_last)
    network.load_state_dict(state)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-4, weight_decay=0.05)
    steps = EPOCHS * -(-len(data.labels) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-4, total_steps=steps)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    pixels, labels = torch.from_numpy(data.inputs), torch.from_numpy(data.labels)
    seconds = []
    for _ in range(EPOCHS):
        begun = time.monotonic()
        for rows in torch.randperm(len(labels)).split(batch_size):
            grey = pixels[rows].unsqueeze(1).float() / 255
            for axis in (2, 3):
                chosen = torch.rand(len(rows)) < 0.5
                grey[chosen] = torch.flip(grey[chosen], (axis,))
            images = ((grey - mean) / std).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(images), labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(network)
        seconds.append(time.monotonic() - begun)
    return seconds


if __name__ == "__main__":
    main()
