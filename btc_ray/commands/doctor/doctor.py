"""`btc-ray doctor`: everything is tried, told by subject, and what the main job lacks makes the exit code 2."""

import json
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from types import ModuleType

from btc_ray import __version__, settings
from btc_ray.commands.doctor.check import Check
from btc_ray.errors import COMPLETE, UNUSABLE
from btc_ray.progress import printable, say
from btc_ray.workers.session import available_cpus, ray_session

LIBRARIES = ("opencv-python-headless", "pillow", "pydicom", "nibabel", "torch", "openvino", "ray", "pyarrow")
MARKS = {"ok": "ok", "missing": "–", "broken": "BROKEN"}


def doctor(chosen: settings.Doctor) -> int:
    """Look at everything and say how it stands; 2 where pictures could not be scored on this machine."""
    say("Looking at decoders, engines, weights, memory and disk …")
    checks = [check for subject, look in _looks(chosen) for check in _tried(subject, look)]
    lacking = [check for check in checks if check.needed and check.state != "ok"]
    if chosen.json:
        print(json.dumps(_as_json(checks, can_score=not lacking), indent=2))
    else:
        _print(checks, lacking)
    return UNUSABLE if lacking else COMPLETE


def _looks(chosen: settings.Doctor) -> list[tuple[str, Callable[[], list[Check]]]]:
    """Each subject with what looks at it. Each imports what it needs: a library that cannot be loaded is a finding about its subject."""

    def decoders() -> ModuleType:
        return import_module("btc_ray.commands.doctor.decoders")

    def machine() -> ModuleType:
        return import_module("btc_ray.commands.doctor.machine")

    return [
        ("Room", lambda: machine().room(chosen.output)),
        ("Pictures", lambda: decoders().pictures()),
        ("DICOM", lambda: decoders().transfer_syntaxes()),
        ("Engines", lambda: machine().engines()),
        ("GPU", lambda: machine().gpus()),
        ("Ray", lambda: machine().ray(ray_session(chosen) if chosen.start_ray else None)),
        ("Object stores", lambda: machine().stores()),
        ("Initial weights", lambda: machine().initial_weights(chosen.weights, chosen.storage())),
    ]


def _tried(subject: str, look: Callable[[], list[Check]]) -> list[Check]:
    try:
        return look()
    except (ImportError, OSError) as error:  # a package that is missing or of another version, a shared library that is not there
        what = f"{type(error).__name__}: {error}"
        advice = "install btc-ray again, into a fresh environment"
        return [Check(subject=subject, name="what it needs", state="broken", detail=what, advice=advice, needed=True)]


def _as_json(checks: list[Check], *, can_score: bool) -> dict[str, object]:
    return {
        "btc_ray": __version__,
        "machine": described(),
        "libraries": versions(),
        "can_score": can_score,
        "checks": [asdict(check) for check in checks],
    }


def _print(checks: list[Check], lacking: list[Check]) -> None:
    print(f"btc-ray {__version__}; {described()}; " + ", ".join(f"{name} {number}" for name, number in versions().items()))
    width = max(len(check.name) for check in checks)
    for subject, found in groupby(checks, key=lambda check: check.subject):
        print(f"\n{subject}")
        for check in found:
            print(f"  {MARKS[check.state]:<7} {check.name:<{width}}  {printable(check.detail)}".rstrip())
            if check.state != "ok" and check.advice:
                print(f"{'':<{width + 12}}→ {check.advice}")
    if lacking:
        print(f"\nPictures cannot be scored here: {', '.join(check.name for check in lacking)}.")
    else:
        print("\nPictures can be scored here.")


def described() -> str:
    """The machine in one line."""
    return f"Python {platform.python_version()}, {sys.platform} {platform.machine()}, {available_cpus()} cores"


def versions() -> dict[str, str]:
    """Libraries that are installed, by their metadata: one that cannot be loaded has a version too."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
