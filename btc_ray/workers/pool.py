"""How many workers a Ray cluster carries, what each asks for, and Ray Data set up the same way for every job.

Only jobs that use Ray load this module.
"""

import logging
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray.autoscaler.sdk
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from btc_ray.errors import UserError
from btc_ray.progress import duration, say
from btc_ray.storage.retries import PASSING_PATTERNS

# Ray Data's reading and writing tasks wait for storage. They ask for nothing, so that no pool, however full, can starve them
# (nor the loss of a node, whose workers then crowd the others), and `Pool.io_tasks` bounds how many run at once.
IO_ARGS: dict[str, Any] = {"num_cpus": 0}

GPU_RETRIES = 10  # of batches whose GPU, worker or node was lost: what fails so often would fail for ever

QUIET_S = 60.0  # a busy cluster frees a place every now and then; after a minute a person wants to know
GIVE_UP_S = 15 * 60.0  # a cloud's node with a GPU takes five to ten minutes to start and pull its image


class PoolError(UserError):
    """A cluster that cannot carry the job."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """One worker a core, and one model a GPU (or a fraction of one); `gpus` is 0 where models run on CPUs."""

    cpus: int
    gpus: int = 0
    gpus_each: float = 1.0

    @classmethod
    def of_cluster(cls, *, use_gpus: bool, need_gpus: bool = False, gpus_each: float = 1.0) -> "Pool":
        """The pool that fits the joined Ray as it is now, after waiting, aloud, for a free place in it. Raises PoolError."""
        if need_gpus:
            wait_for_room({"GPU": gpus_each})
        wait_for_room({"CPU": 1})
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0) / gpus_each) if use_gpus else 0
        return cls(cpus=int(resources["CPU"]), gpus=gpus, gpus_each=gpus_each)

    def for_rows(self, rows: int, *, each: int) -> "Pool":
        """With no more workers on CPUs than have `each` of so many rows: a process that starts costs seconds of a core."""
        return replace(self, cpus=max(1, min(self.cpus, math.ceil(rows / each))))

    @property
    def io_tasks(self) -> int:
        """Reading tasks at once, and as many writing ones: a block keeps its worker busy for a minute, and is read in a second."""
        return max(2, math.ceil((self.gpus * 8 or self.cpus) / 8))

    @property
    def score_writers(self) -> int:
        """Tasks at once that write scores, a megabyte for a minute of a worker: of several, the first blocks would start a process each."""
        return math.ceil((self.gpus * 8 or self.cpus) / 8)

    def cpu_workers(self) -> dict[str, Any]:
        """Arguments of `map_batches` for one actor a core, on all nodes alike; nodes that join later get theirs."""
        compute = ActorPoolStrategy(min_size=1, initial_size=self.cpus)
        return {"num_cpus": 1, "compute": compute, "scheduling_strategy": "SPREAD"}

    def gpu_workers(self) -> dict[str, Any]:
        """Arguments of `map_batches` for the actors that hold a GPU."""
        compute = ActorPoolStrategy(min_size=1, initial_size=self.gpus)
        return {"num_cpus": 0, "num_gpus": self.gpus_each, "compute": compute, "max_task_retries": GPU_RETRIES}


def wait_for_room(wanted: Mapping[str, float], *, quiet_s: float = QUIET_S, give_up_s: float = GIVE_UP_S) -> None:
    """Return when the cluster has so many CPUs or GPUs free, on any nodes; say what is missing where that takes longer.

    What other jobs use is waited for without end, since they end. What no node offers is asked of the autoscaler, and waited for
    as long as a node takes to start. Raises PoolError where none came.
    """
    began = said = time.monotonic()
    asked = False
    try:
        while short := _short(wanted):
            name, offered, amount = short
            now = time.monotonic()
            if offered >= amount:
                if now - said > quiet_s:
                    said = now
                    waited = duration(now - began)
                    say(f"All {offered:g} {name}s of this Ray are in use by other jobs: waiting since {waited}. Ctrl-C ends it.")
            elif now - began > give_up_s or _is_one_machine():
                raise PoolError(
                    f"this Ray offers {offered:g} {name}s for work, {amount:g} are needed, and no other node "
                    "has joined. Start a worker, or give --device cpu where it is GPUs that are missing."
                )
            elif not asked:
                asked = True
                say(f"This Ray offers {offered:g} {name}s for work, and {amount:g} are needed: waiting for nodes to join …")
                ray.autoscaler.sdk.request_resources(bundles=[dict(wanted)])  # without an autoscaler nobody hears it
            time.sleep(min(1.0, quiet_s))
    finally:
        if asked:  # what is asked for stands until it is taken back, and the nodes with it, long after the job
            ray.autoscaler.sdk.request_resources(bundles=[])


def _short(wanted: Mapping[str, float]) -> tuple[str, float, float] | None:
    """The first resource of which too little is free: its name, what all nodes offer of it, and what is wanted."""
    there, free = ray.cluster_resources(), ray.available_resources()
    return next(
        ((name, there.get(name, 0), amount) for name, amount in wanted.items() if free.get(name, 0) < amount),
        None,
    )


def _is_one_machine() -> bool:
    """Whether the only node works itself: a machine, which no other node joins, and not the head of a cluster."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return len(nodes) == 1 and "CPU" in nodes[0]["Resources"]


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
    names = (
        *("enable_progress_bars", "use_datasource_v2", "checkpoint_config", "issue_detectors_config"),
        *("retried_io_errors", "actor_init_retry_on_errors", "actor_init_max_retries"),
    )
    before = {name: getattr(context, name) for name in names}
    context.enable_progress_bars = False
    context.use_datasource_v2 = False
    # Its advice is about the `memory` of workers that a person would have to guess; ours hold a model and one batch.
    context.issue_detectors_config = replace(context.issue_detectors_config, detectors=[])
    # A worker that starts while the store is down cannot load its model: fsspec gives up after 15 s, so six tries are 90 s.
    context.actor_init_retry_on_errors, context.actor_init_max_retries = True, 5
    # Ray Data sets up its own logging when it is imported; here it talks as much as the rest of Ray was told to. An error that ends
    # the job is raised as well, and told once, in our words.
    level = logging.getLogger("ray").getEffectiveLevel()
    logging.getLogger("ray.data").setLevel(logging.CRITICAL if level >= logging.ERROR else level)
    try:
        with warnings.catch_warnings():
            # read_parquet passes num_cpus on to the older reader under the name it warns of.
            warnings.filterwarnings("ignore", message=r".*ray_remote_args.*deprecated")
            # A job of one block needs no more than one task.
            warnings.filterwarnings("ignore", message=r"The maximum number of concurrent tasks")
            # Ours are regular expressions already, as it asks for.
            warnings.filterwarnings("ignore", message=r".*retried_io_errors.*deprecated")
            context.retried_io_errors = [*before["retried_io_errors"], *PASSING_PATTERNS]
            yield context
    finally:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*retried_io_errors.*deprecated")
            for name, value in before.items():
                setattr(context, name, value)
