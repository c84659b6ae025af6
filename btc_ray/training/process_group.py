"""How the workers of one training find each other: not at all where there is one, over loopback alone where all are on this machine.

Torch's own rendezvous listens on every interface and asks nobody who he is, and so does gloo. That is right on a cluster, whose network
its operator keeps, and wrong on a laptop.
"""

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
import torch.distributed
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

LOOPBACK = "127.0.0.1"


@dataclass
class LocalTorchConfig(TorchConfig):
    """Ray Train's TorchConfig without the ports that a single worker or a single machine does not need."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _LocalBackend


class _LocalBackend(_TorchBackend):
    _meeting: str | None = None  # a folder that this user alone may enter

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        if len(worker_group) == 1:
            return  # no process group: the training loop asks for none where none was made
        if any(worker.metadata.node_ip != LOOPBACK for worker in worker_group.get_workers()):
            super().on_start(worker_group, backend_config)
            return
        backend = "nccl" if worker_group.get_resources_per_worker().get("GPU", 0) > 0 else "gloo"
        self._meeting = tempfile.mkdtemp(prefix="btc-ray-")
        shared = (f"file://{self._meeting}/store", backend, len(worker_group), backend_config.timeout_s)
        ray.get([worker_group.execute_single_async(rank, _meet, rank, *shared) for rank in range(len(worker_group))])

    def on_shutdown(self, worker_group: Any, backend_config: TorchConfig) -> None:
        super().on_shutdown(worker_group, backend_config)
        if self._meeting is not None:
            shutil.rmtree(self._meeting, ignore_errors=True)


def _meet(rank: int, where: str, backend: str, size: int, timeout_s: int) -> None:
    """Join the process group through a file, and speak over loopback."""
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    torch.distributed.init_process_group(
        backend, init_method=where, rank=rank, world_size=size, timeout=timedelta(seconds=timeout_s)
    )
