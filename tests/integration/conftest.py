"""One Ray for all tests that need no Ray of their own: it starts once, and so do the actors that Ray Data keeps beside a job; and one
model that was trained on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from btc_ray.workers.counter import release
from btc_ray.workers.starting import asks_no_cloud, waits_for_no_agent
from tests.conftest import made_once
from tests.integration.trainings import HEAD, retrain

# A Ray of two CPUs ends all idle workers but two after a second, and the next task waits for a new one to import what it needs: most
# of what a small job costs. Here they wait for the next test.
WORKERS_STAY = {"num_workers_soft_limit": 8, "idle_worker_killing_time_threshold_ms": 3_600_000}


@pytest.fixture(scope="package")
def ray_here(ray_session: Path) -> None:
    """A Ray of two CPUs on this machine, for all of this package's tests; jobs of this process use it instead of starting their own."""


@pytest.fixture(scope="package")
def ray_session() -> Iterator[Path]:
    """The folder of that Ray's session."""
    import ray

    with asks_no_cloud(), waits_for_no_agent():
        context = ray.init(
            address="local",  # not a Ray that others run on this machine
            num_cpus=2,
            object_store_memory=256 << 20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            _system_config=WORKERS_STAY,
        )
    yield Path(context.address_info["session_dir"])
    release()
    ray.shutdown()


@pytest.fixture(scope="package")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a ResNet18 that tells two classes apart: for four it gets a new head, of the job's seed."""
    from safetensors.torch import save_file

    from btc_ray.model.weights import initial_network

    def make(folder: Path) -> None:
        save_file(initial_network("none", 2, seed=0).state_dict(), folder / "random.safetensors")

    return made_once(tmp_path_factory, "backbone", make) / "random.safetensors"


@pytest.fixture(scope="package")
def bundle(phantoms: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Path:
    """A head trained on the phantoms; its cache is beside it."""

    def make(folder: Path) -> None:
        assert retrain(phantoms, folder / "model", *HEAD, weights=backbone) == 0

    return made_once(tmp_path_factory, "trained", make) / "model"
