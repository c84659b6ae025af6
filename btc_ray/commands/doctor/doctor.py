"""`btc-ray doctor`: everything is tried, told by subject, and what the main job lacks makes the exit code 2."""

import json
from dataclasses import asdict
from itertools import groupby

from btc_ray import __version__, settings
from btc_ray.commands.doctor import decoders, machine
from btc_ray.commands.doctor.check import Check
from btc_ray.errors import COMPLETE, UNUSABLE
from btc_ray.progress import printable, say
from btc_ray.workers.session import ray_session

MARKS = {"ok": "ok", "missing": "–", "broken": "BROKEN"}


def doctor(chosen: settings.Doctor) -> int:
    """Look at everything and say how it stands; 2 where pictures could not be scored on this machine."""
    say("Looking at decoders, engines, weights, memory and disk …")
    checks = [
        *machine.room(chosen.output),
        *decoders.pictures(),
        *decoders.transfer_syntaxes(),
        *machine.engines(),
        *machine.gpus(),
        *machine.ray(ray_session(chosen) if chosen.start_ray else None),
        *machine.stores(),
        *machine.initial_weights(chosen.weights, chosen.storage()),
    ]
    lacking = [check for check in checks if check.needed and check.state != "ok"]
    if chosen.json:
        print(json.dumps(_as_json(checks, can_score=not lacking), indent=2))
    else:
        _print(checks, lacking)
    return UNUSABLE if lacking else COMPLETE


def _as_json(checks: list[Check], *, can_score: bool) -> dict[str, object]:
    return {
        "btc_ray": __version__,
        "machine": machine.described(),
        "libraries": decoders.versions(),
        "can_score": can_score,
        "checks": [asdict(check) for check in checks],
    }


def _print(checks: list[Check], lacking: list[Check]) -> None:
    print(f"btc-ray {__version__}; {machine.described()}; {decoders.versions()}")
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
