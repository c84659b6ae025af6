"""Every way to score a folder of images that this machine can run, as commands: ours, the peers', and parts of ours."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from benchmarks.limits import engines, name
from btc_ray.model.bundle import Bundle, read_bundle
from btc_ray.model.engines.choose import choose
from btc_ray.progress import say
from btc_ray.storage import Place

Command = Callable[[Path, Path, Path], list[str]]  # of the folder of images, the bundle and the output


@dataclass(frozen=True, kw_only=True)
class Way:
    """`kind`: ours crops the head, a peer resizes the whole image, a part writes no labels. `engine` is the model whose limit bounds
    it, where it is one of ours; `cold`: it is timed on few images too."""

    key: str
    title: str
    kind: Literal["ours", "peer", "part"]
    command: Command
    engine: str | None = None
    cold: bool = False


RAY_DOCS, DATALOADER, NO_MODEL, CROP = "ray-docs", "dataloader", "no-model", "crop"  # keys that the tables look for


def ways(bundle: Bundle | None = None) -> list[Way]:
    """Ours first, with torch in fp32 at their head. Says what cannot be had."""
    all_engines, auto = engines(bundle), choose(device="cpu", bundle=bundle)
    found = []
    for where, chosen, rows in (("in process", all_engines, "1000000000"), ("on Ray", [auto, all_engines[0]], "0")):
        for choice in dict.fromkeys(chosen):
            flags = ["--engine", choice.engine, "--precision", choice.precision, "--local-rows", rows]
            key = f"{where} {name(choice)}".replace(" ", "-")
            title = f"btc-ray score {where}, {name(choice)}"
            found.append(Way(key=key, title=title, kind="ours", command=_score(flags), engine=name(choice), cold=choice == auto))
    found += [
        Way(key=RAY_DOCS, title="Ray Data, as documented", kind="peer", command=_module("ray_docs")),
        Way(key="ray-tuned", title="Ray Data, a pool of all cores", kind="peer", command=_module("ray_docs", "--overcommit")),
        Way(key=DATALOADER, title="PyTorch DataLoader", kind="peer", command=_module("dataloader")),
    ]
    if find_spec("daft"):
        engine = name(auto)
        found += [
            Way(key="daft-docs", title="Daft, as documented", kind="peer", command=_module("daft_docs")),
            Way(key="daft-engine", title=f"Daft around our engine, {engine}", kind="ours", command=_module("daft_engine"), engine=engine),
        ]  # fmt: skip
    else:
        say("Daft is not installed: its two ways are left out. `python -m benchmarks.peers --help` says how to have it.")
    return [
        *found,
        Way(key=NO_MODEL, title="btc-ray score on Ray, a model that answers at once", kind="part", command=_no_model),
        Way(key=CROP, title="btc-ray crop on Ray", kind="part", command=_crop),
    ]


def _score(flags: list[str]) -> Command:
    return lambda images, model, output: [
        *(sys.executable, "-m", "btc_ray.cli", "score", "--model", str(model), "--input", str(images)),
        *("--output", str(output), "--device", "cpu", *flags),
    ]


def _module(module: str, *flags: str) -> Command:
    return lambda images, model, output: [
        *(sys.executable, "-m", f"benchmarks.ways.{module}", "--images", str(images), "--model", str(model)),
        *("--output", str(output), *flags),
    ]


def _no_model(images: Path, model: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.scale", "--one", str(images), str(output), str(model)]


def _crop(images: Path, model: Path, output: Path) -> list[str]:
    size = str(read_bundle(Place(str(model))).preprocess["size"])
    return [sys.executable, "-m", "btc_ray.cli", "crop", "--input", str(images), "--output", str(output), "--size", size]
