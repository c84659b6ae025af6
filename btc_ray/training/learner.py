"""What learns and how: network, optimizer, schedule and moving average of one training run, and their state for a checkpoint."""

import math
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel

from btc_ray.model.bundle import IMAGENET_MEAN, IMAGENET_STD
from btc_ray.model.network import learn
from btc_ray.settings.recipe import Recipe
from btc_ray.training.augment import Changes, apply, shrunk
from btc_ray.training.batchnorm import with_global_batchnorm


class Learner:
    """One worker's network in training.

    `network` is a linear head on float32 (N, V, 512) features where the recipe trains the head, and a ResNet18 on uint8
    (N, S, S) crops otherwise. `bf16` runs it under autocast.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, *, steps: int, device: torch.device, bf16: bool = False) -> None:
        self.recipe, self.device, self.bf16 = recipe, device, bf16
        self.network = network.to(device)
        if not self.on_features:
            self.network = self.network.to(memory_format=torch.channels_last)
            self.train()
        self.wrapped = self._distributed()
        self.average = AveragedModel(self.network, multi_avg_fn=_Averaging(recipe.ema), use_buffers=True) if recipe.ema else None
        self.optimizer = make_optimizer([value for value in network.parameters() if value.requires_grad], recipe)
        self.schedule = make_schedule(self.optimizer, recipe, steps=steps)
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)

    @property
    def on_features(self) -> bool:
        return isinstance(self.network, nn.Linear)

    @property
    def model(self) -> nn.Module:
        """What is measured and kept: the moving average where there is one."""
        return self.network if self.average is None else self.average.module

    def train(self) -> None:
        """Training mode, for what learns."""
        if self.on_features:
            return
        learn(self.network, self.recipe.train)
        if self.recipe.frozen_statistics:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def training_inputs(
        self, inputs: np.ndarray, rows: np.ndarray, changes: Changes, places: np.ndarray, *, epoch: int
    ) -> Tensor:
        """The images or features `rows`, changed as the `places` of the epoch's changes say."""
        if self.on_features:
            return torch.from_numpy(inputs[rows, changes.views[places]]).to(self.device)
        side = self.side(epoch, inputs.shape[-1])
        return self._normalised(apply(self._moved(inputs[rows]), changes, places, recipe=self.recipe, side=side))

    def inputs(self, inputs: np.ndarray, rows: np.ndarray) -> Tensor:
        """The images or features `rows` as they are."""
        if self.on_features:
            return torch.from_numpy(np.ascontiguousarray(inputs[rows, 0])).to(self.device)
        return self._normalised(shrunk(self._moved(inputs[rows]), inputs.shape[-1]))

    def side(self, epoch: int, size: int) -> int:
        """The resolution of an epoch (from 1): the epochs are divided evenly among the recipe's, the last taking what is left."""
        sides = self.recipe.resolutions or (size,)
        return sides[min((epoch - 1) * len(sides) // self.recipe.epochs, len(sides) - 1)]

    def step(self, loss: Tensor) -> None:
        """One step of optimizer, schedule and average."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.network)

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs to go on exactly here; plain tensors and numbers."""
        return {
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])

    def _moved(self, pixels: np.ndarray) -> Tensor:
        return torch.from_numpy(pixels).to(self.device, non_blocking=True)

    def _normalised(self, grey: Tensor) -> Tensor:
        return ((grey - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    def _distributed(self) -> nn.Module:
        """The network whose backward pass averages gradients over all workers, and whose BatchNorm sees the global batch."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return self.network
        if self.device.type == "cuda":
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
            return nn.parallel.DistributedDataParallel(self.network, device_ids=[self.device])
        self.network = with_global_batchnorm(self.network)
        return nn.parallel.DistributedDataParallel(self.network)


class _Averaging:
    """One step of the moving average. Its memory is short at first, so that the initial weights are soon forgotten."""

    def __init__(self, decay: float) -> None:
        self._decay = decay

    def __call__(self, averages: tuple[Tensor, ...] | list[Tensor], values: Any, averaged: Tensor | int) -> None:
        weight = 1 - min(self._decay, (1 + int(averaged)) / (10 + int(averaged)))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(value)  # BatchNorm's count of batches


def make_optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with momentum, NAdam (Dozat, 2016) or AdamW (Loshchilov and Hutter, 2019)."""
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
        case "nadam":
            return torch.optim.NAdam(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)
        case "adamw":
            return torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, *, steps: int) -> LRScheduler:
    """The learning rate's course, a step a batch; `steps` is the number of batches in an epoch."""
    total, warm = recipe.epochs * steps, round(recipe.warmup * recipe.epochs * steps)
    if recipe.schedule == "one-cycle":
        return OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=total + 1, pct_start=recipe.warmup or 0.3, cycle_momentum=False
        )

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        if recipe.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))
        return recipe.step_factor ** (step // steps // recipe.step_epochs) if recipe.step_epochs else 1.0

    return LambdaLR(optimizer, factor)
