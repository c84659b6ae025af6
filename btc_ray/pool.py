"""How many workers a Ray cluster carries, what each asks for, and Ray Data set up the same way for every job.

Only jobs that use Ray load this module.
"""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

# Ray Data's reading and writing tasks wait for storage. They ask for nothing, so that no pool, however full, can starve them
# (nor the loss of a node, whose workers then crowd the others), and `Pool.io_tasks` bounds how many run at once.
IO_ARGS: dict[str, Any] = {"num_cpus": 0}


class PoolError(ValueError):
    """A cluster that cannot carry the job."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """One worker a core, and one model a GPU (or a fraction of one); `gpus` is 0 where models run on CPUs."""

    cpus: int
    gpus: int = 0
    gpus_each: float = 1.0

    @classmethod
    def of_cluster(cls, *, use_gpus: bool, need_gpus: bool = False, gpus_each: float = 1.0) -> "Pool":
        """The pool that fits the joined Ray as it is now. Raises PoolError."""
        resources = ray.cluster_resources()
        cpus = int(resources.get("CPU", 0))
        if cpus < 2:
            raise PoolError(
                f"this Ray offers {cpus} CPUs for work; Ray Data needs at least 2. Start it with --num-cpus 2 or more."
            )
        if need_gpus and resources.get("GPU", 0) < gpus_each:
            raise PoolError(
                f"this Ray offers {resources.get('GPU', 0):g} GPUs, fewer than --gpus {gpus_each:g}. Give --device auto or cpu."
            )
        return cls(cpus=cpus, gpus=int(resources.get("GPU", 0) / gpus_each) if use_gpus else 0, gpus_each=gpus_each)

    @property
    def io_tasks(self) -> int:
        """Reading tasks at once, and as many writing ones: a block keeps its worker busy for a minute, and is read in a second."""
        return max(2, math.ceil((self.gpus * 8 or self.cpus) / 8))

    def cpu_workers(self) -> dict[str, Any]:
        """Arguments of `map_batches` for one actor a core, on all nodes alike; nodes that join later get theirs."""
        compute = ActorPoolStrategy(min_size=1, initial_size=self.cpus)
        return {"num_cpus": 1, "compute": compute, "scheduling_strategy": "SPREAD"}

    def gpu_workers(self) -> dict[str, Any]:
        """Arguments of `map_batches` for the actors that hold a GPU."""
        return {"num_cpus": 0, "num_gpus": self.gpus_each, "compute": ActorPoolStrategy(min_size=1, initial_size=self.gpus)}


def beside_driver() -> dict[str, Any]:
    """Options of a small actor that lives as long as the driver, on its node: another node may be lost, and the actor with it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return {"num_cpus": 0, "scheduling_strategy": here}


@contextmanager
def data_context() -> Iterator[DataContext]:
    """Ray Data's context while a job runs, put back afterwards: its bars off, since we show our own.

    The older reader is used: the newer one lists files in a task that asks for a whole CPU and starves beside a full pool.
    """
    context = DataContext.get_current()
    names = ("enable_progress_bars", "use_datasource_v2", "checkpoint_config", "issue_detectors_config")
    before = {name: getattr(context, name) for name in names}
    context.enable_progress_bars = False
    context.use_datasource_v2 = False
    # Its advice is about the `memory` of workers that a person would have to guess; ours hold a model and one batch.
    context.issue_detectors_config = replace(context.issue_detectors_config, detectors=[])
    # Ray Data sets up its own logging when it is imported; here it talks as much as the rest of Ray was told to.
    logging.getLogger("ray.data").setLevel(logging.getLogger("ray").getEffectiveLevel())
    try:
        with warnings.catch_warnings():
            # read_parquet passes num_cpus on to the older reader under the name it warns of.
            warnings.filterwarnings("ignore", message=r".*ray_remote_args.*deprecated")
            # A job of one block needs no more than one task.
            warnings.filterwarnings("ignore", message=r"The maximum number of concurrent tasks")
            yield context
    finally:
        for name, value in before.items():
            setattr(context, name, value)
