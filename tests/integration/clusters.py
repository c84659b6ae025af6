"""A Ray cluster of three nodes on this machine, each started by `ray start` as an operator would, and jobs sent to it from outside."""

import functools
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

STORE = 100 << 20  # bytes of each node's object store
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-token-of-at-least-thirty-two-characters"}  # as the manifests ask for
# A node that is gone is noticed after twenty seconds rather than half a minute: with less, one that waits for a core is taken for gone.
HEALTH = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "20"}
BIN = Path(sys.executable).parent
_NUMBERS = itertools.count(1)  # of the logs: nodes start side by side


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node: everything in the session of its `ray start --block`, which writes to `log`."""

    process: subprocess.Popen[bytes]
    log: Path

    def running(self, name: str) -> list[psutil.Process]:
        """Its processes with `name` in their title."""
        return [item for item in self._all() if name in _title(item)]

    def kill(self) -> None:
        """SIGKILL all of it at once, as when a machine is taken away."""
        members = self._all()
        for member in members:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(members, timeout=10)
        self.process.wait(timeout=10)

    def _all(self) -> list[psutil.Process]:
        return [item for item in psutil.process_iter() if _session(item) == self.process.pid]


@dataclass(frozen=True, kw_only=True)
class ThreeNodes:
    """A head without CPUs for work, and workers of two CPUs each."""

    address: str
    endpoint: str
    head: Node
    workers: list[Node]
    log: Path

    def add_worker(self) -> Node:
        node = _start("--address", self.address, "--num-cpus", 2, log=self.log)
        self.workers.append(node)
        return node

    def kill_worker(self, node: Node) -> None:
        self.workers.remove(node)
        node.kill()


@contextmanager
def three_nodes(log: Path) -> Iterator[ThreeNodes]:
    """The cluster, gone at the end, killed by id."""
    port, dashboard = free_port(), free_port()
    head = _start(
        "--head", "--port", port, "--num-cpus", 0, "--dashboard-port", dashboard, "--ray-client-server-port", free_port(), log=log
    )
    nodes = ThreeNodes(address=f"{_address()}:{port}", endpoint=f"http://127.0.0.1:{dashboard}", head=head, workers=[], log=log)
    try:
        _wait_for(nodes)
        with ThreadPoolExecutor(2) as side_by_side:
            for started in [side_by_side.submit(nodes.add_worker) for _ in range(2)]:
                started.result()
        yield nodes
    finally:
        for node in (*nodes.workers, head):
            node.kill()


def submit(nodes: ThreeNodes, shared: Path, *words: object, log: Path, token: dict[str, str] = TOKEN) -> subprocess.Popen[bytes]:
    """`btc-ray submit …` as a process that knows nothing of the cluster but its endpoint and its token."""
    command = [sys.executable, "-m", "btc_ray.cli", "submit", *map(str, words), "--address", nodes.endpoint]
    with log.open("ab") as sink:
        return subprocess.Popen(
            [*command, "--shared", str(shared)],
            stdout=sink,
            stderr=sink,
            env=_environment() | token,
            start_new_session=True,
            # What a shell starts in the background ignores Ctrl-C, and so would all that it starts in turn.
            preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(*flags: object, log: Path) -> Node:
    # Jobs are started as `python`, which on a cluster is that of its image.
    environment = _environment() | TOKEN | HEALTH | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    # Each node of a real cluster has the default port to itself; here all share one machine.
    ports = ["--dashboard-agent-listen-port", str(free_port())]
    command = [str(BIN / "ray"), "start", "--block", "--object-store-memory", str(STORE), "--disable-usage-stats", *ports]
    for _ in range(3):  # on a busy machine a node gives up its own start after 30 s
        own = log.with_name(f"{log.name}-{next(_NUMBERS)}")
        with own.open("wb") as sink:
            process = subprocess.Popen(
                [*command, *map(str, flags)], stdout=sink, stderr=sink, env=environment, start_new_session=True
            )
        node = Node(process=process, log=own)
        while process.poll() is None:
            if b"Ray runtime started" in own.read_bytes():
                return node
            time.sleep(0.1)
        node.kill()
    raise AssertionError(own.read_text())


def _wait_for(nodes: ThreeNodes, seconds: float = 60) -> None:
    """Until the dashboard answers, if only that it wants a token."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert nodes.head.process.poll() is None, nodes.head.log.read_text()
        try:
            urllib.request.urlopen(f"{nodes.endpoint}/api/version", timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(nodes.head.log.read_text())


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def _address() -> str:
    import ray.util

    return ray.util.get_node_ip_address()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except (ProcessLookupError, PermissionError):
        return None
