"""A command as a process of its own: its seconds, its processor time, and nothing left of it afterwards.

Processor time is what other people's work on the machine disturbs less. It is looked up twice a second for the process and all
below it, so up to half a second of each process is missed; Ray's workers cannot be waited for, which would be exact.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

LOOK_EVERY_S = 0.5
ANSWER_S = 120.0  # to a signal that can be answered
REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a command ended. `code` is its exit code, None where it was killed at its time limit. `survivors`: processes that it had begun
    and that had to be killed after it ended."""

    code: int | None
    seconds: float
    processor: float
    printed: str  # standard output
    said: str  # the last of standard error
    survivors: int = 0


def run(
    command: Sequence[str], *, timeout_s: float, temporary: Path, counted_from: Path | None = None, signal_name: str = "KILL"
) -> Ran:
    """Run a command to its end. Whatever it started is gone when this returns, also after Ctrl-C; `temporary` is for Ray's files.

    Args:
        timeout_s: after so long it is killed with all that is in its group.
        counted_from: the time begins once this path is there.
        signal_name: of another signal than KILL, which is sent to the command alone and has ANSWER_S to be answered.
    """
    seen: dict[psutil.Process, float] = {}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.monotonic()
        process = subprocess.Popen(
            command, stdout=out, stderr=err, cwd=REPOSITORY, env=_environment(temporary), start_new_session=True
        )
        try:
            code: int | None = _watched(process, seen, timeout_s=timeout_s, counted_from=counted_from)
            if code is None and signal_name != "KILL":
                _look(process, seen)
                process.send_signal(getattr(signal, f"SIG{signal_name}"))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(ANSWER_S)
            seconds = time.monotonic() - began
        finally:
            survivors = _end(process, seen)
        for file in (out, err):
            file.seek(0)
        return Ran(
            code=code,
            seconds=seconds,
            processor=sum(seen.values()),
            printed=out.read(),
            said=err.read()[-2000:],
            survivors=survivors if code is not None else 0,
        )


def _watched(
    process: subprocess.Popen[bytes], seen: dict[psutil.Process, float], *, timeout_s: float, counted_from: Path | None
) -> int | None:
    deadline = time.monotonic() + timeout_s if counted_from is None else None
    looked = 0.0
    while deadline is None or time.monotonic() < deadline:
        if deadline is None and counted_from is not None and counted_from.exists():
            deadline = time.monotonic() + timeout_s
        if time.monotonic() - looked > LOOK_EVERY_S or counted_from is None:
            looked = time.monotonic()
            _look(process, seen)
        wait = LOOK_EVERY_S if counted_from is None else 0.005
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=wait if deadline is None else min(wait, max(deadline - time.monotonic(), 0.001)))
    return None


def _look(process: subprocess.Popen[bytes], seen: dict[psutil.Process, float]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        for one in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                times = one.cpu_times()
                seen[one] = times.user + times.system


def _end(process: subprocess.Popen[bytes], seen: dict[psutil.Process, float]) -> int:
    """Ray's processes end by themselves within a second or two of their driver, and would disturb what is timed next. Returns how many
    did not."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    _, alive = psutil.wait_procs(list(seen), timeout=10)
    for one in alive:  # a Process knows its own by the time it began: a number that was given again is not killed
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(alive, timeout=10)
    return len(alive)


def _environment(temporary: Path) -> dict[str, str]:
    variables = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}  # each way starts its own
    paths = [str(REPOSITORY), *filter(None, [variables.get("PYTHONPATH")])]
    variables |= {"PYTHONPATH": os.pathsep.join(paths), "RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "true"}
    if len(str(temporary)) < 35:  # Ray's sockets stand 68 characters deeper, and a socket's name ends at 107
        variables["RAY_TMPDIR"] = str(temporary)
    return variables
