"""A Ray cluster of three nodes on this machine, each a raylet of its own, and jobs sent to it from outside."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STORE = 100 << 20  # bytes of each node's object store


@dataclass(frozen=True, kw_only=True)
class ThreeNodes:
    """A head without CPUs for work, and workers of two CPUs each."""

    cluster: Any
    endpoint: str
    workers: list[Any]

    def kill_worker(self, node: Any) -> None:
        """SIGKILL a node: its raylet, and with it whatever it ran."""
        self.cluster.remove_node(node, allow_graceful=False)
        self.workers.remove(node)

    def add_worker(self, **named: Any) -> Any:
        node = self.cluster.add_node(num_cpus=2, object_store_memory=STORE, include_dashboard=False, **named)
        self.workers.append(node)
        return node


@contextmanager
def three_nodes() -> Iterator[ThreeNodes]:
    """The cluster, gone at the end."""
    from ray.cluster_utils import Cluster

    # Jobs are started as `python`, which on a cluster is that of its image.
    before, os.environ["PATH"] = os.environ["PATH"], f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    port = free_port()
    head = {
        "num_cpus": 0,
        "include_dashboard": True,
        "dashboard_host": "127.0.0.1",
        "dashboard_port": port,
        "object_store_memory": STORE,
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = ThreeNodes(cluster=cluster, endpoint=f"http://127.0.0.1:{port}", workers=[])
        nodes.add_worker()
        nodes.add_worker()
        cluster.wait_for_nodes()
        yield nodes
    finally:
        cluster.shutdown()
        os.environ["PATH"] = before


def submit(nodes: ThreeNodes, shared: Path, *words: object, log: Path) -> subprocess.Popen[bytes]:
    """`btc-ray submit …` as a process that knows nothing of the cluster but its endpoint."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("RAY_") or name.startswith("RAY_AUTH")
    }
    command = [sys.executable, "-m", "btc_ray.cli", "submit", *map(str, words), "--address", nodes.endpoint]
    with log.open("ab") as sink:
        return subprocess.Popen(
            [*command, "--shared", str(shared)], stdout=sink, stderr=sink, env=environment, start_new_session=True
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
