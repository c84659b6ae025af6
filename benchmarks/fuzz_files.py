"""Damaged and hostile archives, bundle.json and run.json: `python -m benchmarks.fuzz_files --mutants 20000`.

Small sound archives (zip, tar, tar.gz, tar.bz2, tar.xz) are changed at random as in `fuzz_images`, listed, and every member is read;
descriptions of bundles and runs are changed value by value, or byte by byte, and opened. Reported are the outcomes, the slowest mutant,
the most memory, what was written on stderr, and mutants that ended in an error that is not one of the rooms' own: there must be none.
By its seed each mutant can be made again: `--seed S --only N`.
"""

import collections
import io
import json
import resource
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from copy import deepcopy as copy_of
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz_images import StderrKept, arguments, mutant, numbers, peak_bytes, sound_files
from btc_ray.archive.entries import Entry
from btc_ray.archive.listing import list_inputs
from btc_ray.archive.reader import ByteReader
from btc_ray.errors import BtcRayError
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import Bundle, read_bundle
from btc_ray.scoring.state import fingerprint_of, read_state
from btc_ray.storage import Place

ODD: list[Any] = [
    *(None, True, False, 0, -1, 2**63, 1e308, float("nan"), float("inf"), "", "x", "\x1b[2J", "\ud800", "a" * 5000, [], {}, [[]], {"": 0}),
]  # fmt: skip


def main() -> None:
    chosen = arguments(__doc__)
    archives, records = sound_archives(), sound_records()
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, resource.RLIM_INFINITY))
    outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
    bad: list[str] = []
    worst = (0.0, -1)
    before = peak_bytes()
    with tempfile.TemporaryDirectory() as folder, StderrKept() as spoken:
        for number in numbers(chosen):
            random = np.random.default_rng([chosen.seed, number, 7])
            if number % 2:
                name, data = mutant(archives, list(archives), chosen.seed, number)
            else:
                name = list(records)[int(random.integers(len(records)))]
                data = changed_record(records[name], random)
            file = Path(folder) / name
            file.write_bytes(data)
            if chosen.only is not None:
                Path(f"mutant-{chosen.seed}-{number}-{name}").write_bytes(data)
            peak, began = peak_bytes(), time.process_time()
            try:
                outcome = (read_archive if number % 2 else OPEN[name])(file)
            except BtcRayError as error:
                outcome = type(error).__name__
            except Exception as error:  # noqa: BLE001 - what is looked for
                outcome = f"{type(error).__name__}!"
                bad.append(f"mutant {number} of {name}: {traceback.format_exception(error)[-2].strip()} {error}"[:400])
            seconds = time.process_time() - began
            worst = max(worst, (seconds, number))
            outcomes[name, outcome] += 1
            if seconds > chosen.slow or peak_bytes() - peak > 1e6 * chosen.memory:
                bad.append(f"mutant {number} of {name}: {seconds:.1f} s, {(peak_bytes() - peak) / 1e6:.0f} MB more")
            file.unlink()
        told = spoken()
    print(f"{sum(outcomes.values()):,} mutants of {len(archives)} archives and {len(records)} records, seed {chosen.seed}")
    for name in (*archives, *records):
        print(
            f"  {name}: " + ", ".join(f"{count:,} {outcome}" for (of, outcome), count in sorted(outcomes.items()) if of == name)
        )
    print(
        f"slowest: {worst[0]:.2f} s (mutant {worst[1]}); most memory: {(peak_bytes() - before) / 1e6:.0f} MB more than for sound files"
    )
    print(f"written on stderr: {len(told):,} bytes; errors that are not ours, too slow or too large: {len(bad)}")
    for line in [*bad[:30], *([told[:500].decode(errors="replace")] if told else [])]:
        print(line)
    sys.exit(1 if bad or told else 0)


def sound_archives() -> dict[str, bytes]:
    """Small archives of five pictures, by file name."""
    pictures = [(f"a/{number}.png", data) for number, (name, data) in enumerate(sound_files().items()) if name.startswith("PNG")][
        :5
    ]
    found: dict[str, bytes] = {}
    for name, method in (
        ("stored.zip", zipfile.ZIP_STORED),
        ("deflated.zip", zipfile.ZIP_DEFLATED),
        ("lzma.zip", zipfile.ZIP_LZMA),
    ):
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", method) as archive:
            for member, data in pictures:
                archive.writestr(member, data)
        found[name] = sink.getvalue()
    modes: tuple[tuple[str, Any, int], ...] = (
        *(
            ("plain.tar", "w", tarfile.PAX_FORMAT),
            ("gnu.tar", "w", tarfile.GNU_FORMAT),
            ("packed.tar.gz", "w:gz", tarfile.PAX_FORMAT),
        ),
        *(("packed.tar.bz2", "w:bz2", tarfile.PAX_FORMAT), ("packed.tar.xz", "w:xz", tarfile.PAX_FORMAT)),
    )
    for name, mode, form in modes:
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode=mode, format=form) as archive:
            for member, data in pictures:
                info = tarfile.TarInfo(member if name != "gnu.tar" else f"{'long/' * 30}{member}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        found[name] = sink.getvalue()
    return found


def sound_records() -> dict[str, Any]:
    """bundle.json and run.json with something in every part."""
    preprocess = Preprocess(size=64)
    bundle = Bundle(
        classes=("glioma", "meningioma", "no tumor"),
        columns=("prob_glioma", "prob_meningioma", "prob_no_tumor"),
        model_id="0" * 16,
        preprocess=preprocess.to_dict(),
        preprocess_id=preprocess.preprocess_id,
        decision={
            "accept_distance": 20.0,
            "reject_distance": 30.0,
            "accept_confidence": 0.9,
            "accept_surround": 0.5,
            "reference_id": "0" * 16,
            "validation": {"images": 100, "accepted": 50, "wrong_among_accepted": 0, "wrong": 3},
            "distance_deciles": [float(number) for number in range(9)],
        },
        int8={"int8_id": "0" * 16, "passed": True, "images": 200, "labels_agree": 0.99, "largest_difference": 0.02},
        metrics={"test": {"images": 12, "accuracy": 0.9, "loss": 0.3}},
        training={"epochs": 3},
        data={"split": "group", "train": {"glioma": 3}},
        versions={"torch": "2"},
    )
    fingerprint = fingerprint_of(["/data"], bundle, engine="torch", precision="fp32")
    run = {
        "kind": "score",
        "complete": True,
        "fingerprint": {name: getattr(fingerprint, name) for name in fingerprint.__dataclass_fields__},
        "manifest": {"rows": 3, "listed": "x", "parts": 1, "problems": {}, "formats": {".png": 3}},
        "counts": {"rows": 3, "status": {"ok": 3}, "label": {"glioma": 3}},
        "sessions": [{"seconds": 1.0}],
        "classes": list(bundle.classes),
        "skipped": {"a reason": {"count": 1, "examples": ["x"]}},
    }
    return {"bundle.json": json.loads(json.dumps(bundle.to_dict())), "run.json": run}


def changed_record(record: Any, random: np.random.Generator) -> bytes:
    """One to three values replaced, taken away or doubled; of one in four, bytes changed as well."""
    copy = json.loads(json.dumps(record))
    for _ in range(int(random.integers(1, 4))):
        at = copy
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = keys[int(random.integers(len(keys)))]
            if isinstance(at[key], dict | list) and at[key] and random.integers(4):
                at = at[key]
                continue
            if random.integers(4) == 0:
                del at[key]
            else:
                at[key] = copy_of(ODD[int(random.integers(len(ODD)))])
            break
    data = bytearray(json.dumps(copy).encode())
    if random.integers(4) == 0:
        for _ in range(int(random.integers(1, 6))):
            data[int(random.integers(len(data)))] = int(random.integers(256))
    return bytes(data)


def read_archive(file: Path) -> str:
    """List it and read all of its members; what cannot be read is an error beside the others."""
    rows = [item for item in list_inputs([str(file)]) if isinstance(item, Entry)]
    wanted = [
        {"row_id": number, **{name: getattr(row, name) for name in Entry.__dataclass_fields__}} for number, row in enumerate(rows)
    ]
    found = list(ByteReader({}).read_many(wanted))
    assert len(found) == len(rows)
    wrong = [item for item in found if isinstance(item, Exception) and not isinstance(item, BtcRayError | OSError)]
    if wrong:
        raise RuntimeError(f"a member ended in {wrong[0]!r}")
    return "read"


def _open_bundle(file: Path) -> str:
    read_bundle(Place(str(file.parent)))
    return "read"


def _open_run(file: Path) -> str:
    read_state(Place(str(file.parent))).to_dict()
    return "read"


OPEN: dict[str, Callable[[Path], str]] = {"bundle.json": _open_bundle, "run.json": _open_run}


if __name__ == "__main__":
    main()
