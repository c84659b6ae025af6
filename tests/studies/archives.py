"""A small archive written by a test, listed and prepared as a run does it, without a model: what became of each file."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from btc_ray.archive.entries import NoImagesError
from btc_ray.images.prepare import Preprocess
from btc_ray.scoring.folder import RunFolder
from btc_ray.scoring.inputs import list_images
from btc_ray.settings import Score
from btc_ray.storage import Place
from btc_ray.studies.preparer import Preparer


@dataclass(kw_only=True)
class Outcome:
    """`rows`: prepared rows in the order of the manifest, with the name of their file; `skipped`: reasons, counted; `series`: rows of
    RUN/series before scoring; `refused`: why there was nothing to score."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    series: list[dict[str, Any]] = field(default_factory=list)
    studies: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None

    @property
    def status(self) -> dict[str, int]:
        return dict(Counter(row["status"] for row in self.rows))

    @property
    def errors(self) -> list[str]:
        return [row["error"] for row in self.rows if row["error"]]

    @property
    def reasons(self) -> dict[str, int]:
        """Why series are not scored."""
        return dict(Counter(one["reason"] for one in self.series if not one["selected"]))


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def outcome(tmp_path: Path, files: Mapping[str, bytes], **flags: Any) -> Outcome:
    """What becomes of `files`, by name, in a folder; `flags` of `score`."""
    source = write(tmp_path / "in", files)
    settings = Score(model="none", input=(flags.pop("input", str(source)),), output=str(tmp_path / "run"), **flags)
    run = RunFolder(Place(settings.output))
    try:
        found = list_images(settings, run, cpus=1)
    except NoImagesError as error:
        return Outcome(refused=str(error))
    manifest = pa.concat_tables([part.read_table() for part in run.manifest.files(".parquet")])
    prepared = Preparer(Preprocess(size=32))(manifest).to_pylist()
    root = f"{source}/"
    rows = [row | {"name": uri.removeprefix(root)} for row, uri in zip(prepared, manifest["uri"].to_pylist(), strict=True)]
    return Outcome(
        rows=rows,
        skipped={reason: tally.count for reason, tally in found.summary.skipped.items()},
        series=run.series_known.read_table().to_pylist() if run.series_known.exists() else [],
        studies=found.studies,
    )
