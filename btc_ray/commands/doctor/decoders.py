"""Whether pictures and DICOM frames can be decoded: one small sample of each kind, made here."""

import io
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from PIL import Image

from btc_ray.commands.doctor.check import Check
from btc_ray.images.errors import Unreadable, Unsupported
from btc_ray.images.formats import frame_pool
from btc_ray.images.formats.samples import sample_frame
from btc_ray.images.prepare import Preprocess, prepare
from btc_ray.phantoms.phantom import make_phantom

PICTURES = ("jpeg", "png", "tiff", "bmp", "webp")
LOSSLESS = 0  # grey levels that a decoded sample may differ by; the lossy ones hold a flat picture


def pictures() -> list[Check]:
    """Each raster format: a phantom written by Pillow, cropped as scoring does it."""
    grey = Image.fromarray(make_phantom("glioma", seed=0, size=(96, 96)).pixels)
    return [_picture(kind, grey) for kind in PICTURES]


def _picture(kind: str, grey: Image.Image) -> Check:
    content = io.BytesIO()
    try:
        grey.save(content, kind)
        prepare(content.getvalue(), Preprocess())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the user wants to know
        return Check(
            subject="Pictures", name=kind.upper(), state="broken", detail=f"{type(error).__name__}: {error}", needed=True
        )
    return Check(subject="Pictures", name=kind.upper(), state="ok", needed=True)


def transfer_syntaxes() -> list[Check]:
    """Each compressed transfer syntax of DICOM: a frame encoded here, decoded in a process of its own as scoring does it."""
    try:
        return [_transfer_syntax(syntax, *about) for syntax, about in frame_pool.SYNTAXES.items()]
    finally:
        frame_pool.close()


def _transfer_syntax(syntax: str, name: str, package: str) -> Check:
    check = partial(Check, subject="DICOM", name=f"{name} ({syntax})")
    install = f"pip install 'btc-ray[dicom]' ({package})"
    try:
        sample = sample_frame(syntax)
    except ModuleNotFoundError:
        return check(state="missing", detail=f"{package} is not installed", advice=install)
    if sample is None:
        try:
            return check(state="ok", detail=f"{package} {version(package)}, not tried: nothing here encodes it")
        except PackageNotFoundError:
            return check(state="missing", detail=f"{package} is not installed", advice=install)
    content, words, bits = sample
    task = frame_pool.Task(
        syntax=syntax,
        rows=words.shape[0],
        columns=words.shape[1],
        samples=1,
        allocated=8 * words.itemsize,
        stored=bits,
        signed=False,
        photometric="MONOCHROME2",
        planar=0,
    )
    try:
        found = frame_pool.decode(content, task)
    except Unsupported as error:
        return check(state="missing", detail=str(error), advice=install if "install" in str(error) else "")
    except Unreadable as error:
        return check(state="broken", detail=str(error), advice=f"reinstall {package}")
    difference = int(np.abs(found.astype(np.int64) - words).max())
    if difference > LOSSLESS:
        return check(state="broken", detail=f"a sample differs by {difference} grey levels", advice=f"reinstall {package}")
    return check(state="ok", detail="a sample was decoded")
