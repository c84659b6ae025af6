"""Python's door: a bundle loaded and asked, an archive scored, a head cut out. Everything that `btc-ray score` promises holds here too:
one row an image whatever became of it, and the same pixels as in training."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from btc_ray import settings, storage
from btc_ray.archive.entries import ReadError
from btc_ray.archive.reader import ByteReader
from btc_ray.commands.score import run_and_summarise
from btc_ray.images.batch import prepare_batch
from btc_ray.images.errors import ImageError
from btc_ray.images.formats import HEAD, sniff
from btc_ray.images.prepare import Prepared, Preprocess, prepare
from btc_ray.model.bundle import Bundle, read_bundle
from btc_ray.model.engines.choose import choose, open_engine
from btc_ray.model.engines.engine import Choice, Engine
from btc_ray.scoring.local import default_batch_size
from btc_ray.scoring.scorer import Predictor
from btc_ray.scoring.state import RunState, read_state
from btc_ray.scoring.table import scores_schema
from btc_ray.settings.job import CropMethod, Device, Precision
from btc_ray.settings.job import Engine as EngineChoice
from btc_ray.storage import Place

Image: TypeAlias = str | os.PathLike[str] | bytes | np.ndarray
"""One image: the path or URI of a file, the bytes of a file, or uint8 (H, W)."""


def load(
    model: str | os.PathLike[str],
    *,
    engine: EngineChoice = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> "Model":
    """Open a model bundle.

    Args:
        model: folder or URI made by `btc-ray retrain`.
        engine, device, precision: what computes, as in `btc-ray score`.
        threads: CPU threads of a call; None: all.
        storage_options: of remote URIs, as fsspec names them.

    Raises:
        BundleError: no bundle, or a damaged one.
        EngineError: an engine, device or precision that is not to be had here.
    """
    place = Place(os.fspath(model), dict(storage_options or {}))
    bundle = read_bundle(place)
    choice = choose(engine=engine, device=device, precision=precision, bundle=bundle)
    return Model(bundle, choice, open_engine(place, choice, bundle=bundle, threads=threads), place.options)


class Model:
    """A bundle that is ready to answer.

    Attributes:
        bundle: what `bundle.json` says: `classes`, `model_id`, `metrics` and so on.
        choice: the engine, device and precision that compute.
    """

    def __init__(self, bundle: Bundle, choice: Choice, engine: Engine, options: Mapping[str, str]) -> None:
        self.bundle, self.choice = bundle, choice
        self._preprocess = Preprocess.from_dict(bundle.preprocess)
        self._predict, self._reader = Predictor(bundle, engine), ByteReader(options)
        self._batch = default_batch_size(choice.device)

    def __repr__(self) -> str:
        return f"Model({self.bundle.model_id}: {', '.join(self.bundle.classes)}; {self.choice.engine}, {self.choice.precision})"

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the `prob_…` columns."""
        return self.bundle.classes

    def predict(self, images: Image | Iterable[Image]) -> pa.Table:
        """Crop and classify images.

        Args:
            images: one or many of: a path or URI of an image file, of DICOM and NIfTI one of a single slice; the bytes of one; uint8
                (H, W), a whole grey picture, which is cropped as a file would be.

        Returns:
            A table with the columns of `scores`, a row an image in the order given. What cannot be read, decoded or understood is a
            row with its `status` and `error`. `uri` of what has no path is `bytes:N` or `array:N`, N its position.

        Raises:
            TypeError: an array that is not uint8, or something that is no image at all.
            ValueError: an array that is not two-dimensional, or is empty.
        """
        given = [images] if isinstance(images, (str, os.PathLike, bytes, np.ndarray)) else list(images)
        rows = [{"row_id": number, "uri": _name(image, number)} for number, image in enumerate(given)]
        tables = []
        for start in range(0, len(given), self._batch):
            contents = [self._content(image) for image in given[start : start + self._batch]]
            tables.append(self._predict(prepare_batch(rows[start : start + self._batch], contents, self._preprocess)))
        return pa.concat_tables(tables) if tables else scores_schema(self.bundle).empty_table()

    def _content(self, image: Image) -> bytes | Exception:
        if isinstance(image, bytes):
            return _of_one_frame(image)
        if isinstance(image, np.ndarray):
            return _encoded(image)
        try:
            return _of_one_frame(self._reader.read({"uri": _name(image, 0)}))
        except ReadError as error:
            return error


def _of_one_frame(data: bytes) -> bytes | Exception:
    """A file's bytes; an error for one that holds several slices or frames, which its first one would not stand for."""
    found = sniff(data[:HEAD])
    try:
        frames = 1 if found is None else found.frames(data)
    except ImageError:
        return data  # decoding it says what is wrong
    if frames == 1:
        return data
    return ReadError(f"it holds {frames:,} slices or frames; btc_ray.score makes a row of each", status="unsupported")


def score(
    model: str | os.PathLike[str],
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    **flags: Any,
) -> "Run":
    """Score an archive into a run folder, as `btc-ray score` does; called again with the same arguments it continues or returns at once.

    Args:
        model: a model bundle.
        inputs: folders, globs, images, zip or tar archives, or lists of them.
        output: the run folder.
        flags: those of `btc-ray score`, with underscores: `engine`, `precision`, `cpus`, `address`, `local_rows`, …

    Raises:
        UserError: arguments that cannot be used; its subclass says which.
        RefusedError: the folder belongs to another run.
    """
    several = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    chosen = settings.Score(
        model=os.fspath(model), input=tuple(os.fspath(uri) for uri in several), output=os.fspath(output), **flags
    )
    return Run(place=Place(chosen.output, chosen.storage()), state=run_and_summarise(chosen))


def open_run(folder: str | os.PathLike[str], *, storage_options: Mapping[str, str] | None = None) -> "Run":
    """A run folder that is there already. Raises RefusedError where it is none, FileNotFoundError where nothing is there."""
    place = Place(os.fspath(folder), dict(storage_options or {}))
    return Run(place=place, state=read_state(place))


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder.

    Attributes:
        place: where it is.
        state: what `run.json` says: `counts`, `fingerprint`, `manifest`, `skipped` and so on.
    """

    place: Place
    state: RunState

    def dataset(self) -> pads.Dataset:
        """The scores as a dataset that is read when it is asked: for runs that do not fit into memory."""
        filesystem, path = (self.place / "scores").arrow()
        return pads.dataset(path, filesystem=filesystem, format="parquet")

    def scores(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The scores, or some of their columns, in the order of `row_id`."""
        wanted = None if columns is None else list(columns)
        named = wanted if wanted is None or "row_id" in wanted else [*wanted, "row_id"]
        table = self.dataset().to_table(columns=named).sort_by("row_id")
        return table if wanted is None else table.select(wanted)

    @property
    def summary(self) -> str:
        """Where the end report is."""
        return (self.place / "summary.html").uri


def crop(image: Image, *, method: CropMethod = "robust", size: int = 224) -> Prepared:
    """Find the head and cut it out, as every job does before a model sees it.

    Args:
        image: as `Model.predict` takes one.
        method: robust, kaggle (the data set author's) or none.
        size: side of the square in pixels.

    Returns:
        `pixels` uint8 (size, size) and the `box` in the original picture; or `status` and `error` where there is none.

    Raises:
        TypeError, ValueError: as `Model.predict`; OSError and ReadError for a path that cannot be read.
    """
    if isinstance(image, np.ndarray):
        image = _encoded(image)
    data = image if isinstance(image, bytes) else ByteReader({}).read({"uri": _name(image, 0)})
    return prepare(data, Preprocess(crop=method, size=size))


def _name(image: Image, number: int) -> str:
    match image:
        case bytes():
            return f"bytes:{number}"
        case np.ndarray():
            return f"array:{number}"
        case str() | Path():
            return storage.absolute(str(image))
        case os.PathLike():
            return storage.absolute(os.fspath(image))
        case _:
            raise TypeError(f"image {number} is a {type(image).__name__}; give a path, bytes, or a uint8 array (H, W)")


def _encoded(pixels: np.ndarray) -> bytes:
    """A grey picture as a file without loss, so that it goes the way of every other file."""
    if pixels.dtype != np.uint8:
        raise TypeError(
            f"the array is {pixels.dtype}; pictures are uint8, 0 to 255. Scale it yourself: how grey levels are chosen changes answers."
        )
    if pixels.ndim != 2 or not pixels.size:
        raise ValueError(f"the array has the shape {pixels.shape}; one grey picture is (H, W). Give several as a list.")
    return bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])[1])
