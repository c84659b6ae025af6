"""Joining, starting and leaving Ray."""

import functools
import math
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from btc_ray import settings
from btc_ray.errors import UserError
from btc_ray.progress import say
from btc_ray.workers.counter import release
from btc_ray.workers.starting import asks_no_cloud, waits_for_no_agent

CONNECT_S = 10.0
STARTS = 3  # of a Ray on this machine, at most
LONGEST_TMPDIR = 40  # beside it Ray needs up to 65 letters for session, node and socket


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler or a closing machine sends it: what stops by Ctrl-C stops by it, and saves what is done."""


class ClusterError(UserError):
    """A Ray that cannot be reached."""


def available_cpus() -> int:
    """CPU cores this process may use: its affinity mask, where the system has one, and no more than its container's quota pays for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(Path("/sys/fs/cgroup"))
    return cores if math.isinf(quota) else min(cores, max(1, math.ceil(quota)))


def _quota(cgroup: Path) -> float:
    """CPU cores that a container's control group may use on average (`docker --cpus`, a Kubernetes limit); infinite without a limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # version 2, version 1
        try:
            quota, period = " ".join((cgroup / name).read_text() for name in files).split()
            return float(quota) / float(period) if float(quota) > 0 else math.inf
        except (OSError, ValueError, ZeroDivisionError):  # no such file, or `max`
            continue
    return math.inf


def chosen_address(address: str | None) -> str | None:
    """The Ray to join: the flag, else $RAY_ADDRESS; None for a Ray of its own on this machine."""
    address = address or os.environ.get("RAY_ADDRESS") or None
    return None if address == "local" else address


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """While the block runs, SIGTERM raises Terminated in the main thread. In another thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def joined(address: str | None, *, cpus: int | None = None, debug: bool = False) -> Iterator[None]:
    """Join the Ray at `address`, or start one here, and leave it (or stop it) at the end. Raises ClusterError.

    A Ray that is already initialised in this process, as in a test or a notebook, is used and left running.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield
        return
    keep_to_this_machine(address)
    where = chosen_address(address)
    import ray

    if where is not None:
        _check_answers(where, "--address" if address else "the environment variable RAY_ADDRESS")
    if not debug:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ side writes to our stderr past Python's logging
    quiet = {"log_to_driver": debug, "logging_level": "info" if debug else "error"}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if where is None:
            say("Starting Ray on this machine …")
            workers = max(cpus or available_cpus(), 2)  # Ray Data needs two
            keep_idle_processes(workers)
            _import_meanwhile("pandas")
            _start(
                address="local",  # without it Ray would join a cluster that it finds in the environment or on this machine
                num_cpus=workers,
                object_store_memory=object_store_bytes(),
                include_dashboard=False,
                **_short_folder(),
                **quiet,
            )
        else:
            say(f"Joining Ray at {where} …")
            ray.init(address=where, **quiet)
    except Exception as error:
        # Ray raises a bare Exception where its processes are not there in time.
        if not isinstance(error, ConnectionError | ValueError | RuntimeError) and type(error) is not Exception:
            raise
        if where is None:
            raise ClusterError(
                f"no Ray on this machine ({error}). Where the machine is busy, run the command again once it is less so; --debug says more."
            ) from error
        raise ClusterError(
            f"no Ray at {where} ({error}). Give --address HOST:PORT of a running cluster, or --address local."
        ) from error
    # Ray has put its own there, which ends the process where it stands.
    if handler is _terminate and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        # Not in a thread, though it takes two seconds: whatever of Ray's is still referred to by then ends this process, with a 1.
        release()
        ray.shutdown()


def keep_to_this_machine(address: str | None) -> None:
    """What a Ray that may start here finds in its environment: nothing leaves the machine, and nobody comes in.

    Its services listen on loopback alone, ask for a token that stands in no file, and send no reports. Values that the user has set
    stay. Nothing happens where `address` is that of a cluster. Ray reads where to listen, and the token, when it is imported: the
    command line calls this before. Where Ray was imported earlier it keeps others out by a token in ~/.ray, its own default.
    """
    if chosen_address(address) is not None:
        return
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if "ray" in sys.modules:
        return
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # one machine: Ray's address is 127.0.0.1, on Linux too
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    if not _has_home():  # Ray and libraries look for one: a user id that nobody knows, as containers have it
        os.environ["HOME"] = tempfile.gettempdir()


def _start(**arguments: Any) -> None:
    """`ray.init` of a Ray on this machine, again where its processes are not there within the 30 s that it waits: the machine is busy."""
    import ray

    with asks_no_cloud() as begun, waits_for_no_agent():
        for left in reversed(range(STARTS)):
            try:
                ray.init(**arguments)
                return
            except Exception as error:
                if not left or type(error) is not Exception:  # a bare one is that of processes that are late
                    raise
                say("Ray's processes were not there in time, as on a busy machine; trying again …")
                ray.shutdown()
                while begun:
                    begun.pop().process.kill()


def _has_home() -> bool:
    try:
        return Path.home().is_dir()
    except RuntimeError:
        return False


def _check_answers(where: str, source: str) -> None:
    """That something listens where a Ray is to be joined: Ray itself would wait for minutes. Raises ClusterError."""
    host, colon, port = where.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return  # auto, or a scheme of Ray's own: it says itself what is wrong
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise ClusterError(
            f"nothing answers at {where} ({error.strerror or error}), which {source} names. Start the cluster, give --address "
            "HOST:PORT of one that runs, or leave it out (unset RAY_ADDRESS) to work on this machine."
        ) from error


def _short_folder() -> dict[str, str]:
    """Ray's folder, where the one for temporary files has a name too long for the sockets in it (107 letters on Linux)."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or ""
    if len(folder) <= LONGEST_TMPDIR or not os.access("/tmp", os.W_OK):
        return {}
    say(
        f"Ray works in /tmp/ray: the name of TMPDIR is too long for its sockets ({len(folder)} letters, {LONGEST_TMPDIR} at most)."
    )
    return {"_temp_dir": "/tmp/ray"}


def keep_idle_processes(workers: int) -> None:
    """Let the Ray that is about to start here keep the processes of tasks that are done, for the next such task.

    It ends an idle process after a second where there are more than one a CPU. A pool holds every CPU, and so every task that
    writes would begin with the start of a Python and the import of Ray Data, a second of processor time each. Besides the pool
    there are as many that write, and Ray Data's own actors and ours. A value that the user has set stays.
    """
    os.environ.setdefault("RAY_num_workers_soft_limit", str(2 * workers + 8))


def _import_meanwhile(name: str) -> None:
    """Import what Ray Data will import, half a second of it, while `ray.init` waits for its processes.

    Nothing of Ray itself: two threads that import parts of one package may each wait for the other's.
    """
    threading.Thread(target=import_module, args=(name,), name=f"import {name}", daemon=True).start()


def object_store_bytes() -> int:
    """Memory for Ray's object store on a machine of its own: a tenth of what is free, between 256 MB and 2 GB.

    Images never stand in it on a CPU, so the default of 30 % of all memory would be taken from the page cache for nothing.
    """
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        free = 4 << 30
    return int(min(max(free // 10, 256 << 20), 2 << 30))


def ray_session(chosen: settings.Job) -> Callable[[], AbstractContextManager[None]]:
    """What joins or starts Ray when a room needs it."""
    return functools.partial(joined, chosen.address, cpus=chosen.cpus, debug=chosen.debug)
