"""Where a result comes from: versions of libraries, and the commit of this code."""

import functools
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def library_versions() -> dict[str, str]:
    """Versions of what a result depends on, without importing any of it; looked up once a process."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ("btc-ray", "torch", "torchvision", "ray", "opencv-python-headless", "pillow", "numpy", "pyarrow"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    with suppress(PackageNotFoundError):  # optional
        versions["openvino"] = version("openvino")
    return versions


@functools.cache
def git_commit() -> str | None:
    """The commit of the checkout this code runs from, as git says once a process, or None where it is installed without one."""
    home = Path(__file__).resolve().parents[3]
    if not (home / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(home), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
