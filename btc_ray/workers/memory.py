"""Memory that a job may take on this machine, or in its container."""

import os
from pathlib import Path


def free_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> tuple[int, int | None]:
    """Bytes that are free, and the limit of the control group (`docker --memory`, a Kubernetes limit) where it is what binds."""
    machine = _available()
    for most, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        try:
            limit, taken = int((cgroup / most).read_text()), int((cgroup / used).read_text())
        except (OSError, ValueError):  # no such file, or `max`
            continue
        if limit - taken < machine and limit < 1 << 60:  # version 1 says some 2^63 where there is no limit
            return max(limit - taken, 0), limit
    return machine, None


def _available(meminfo: Path = Path("/proc/meminfo")) -> int:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
