"""The settings of `btc-ray review`."""

from dataclasses import dataclass
from typing import Literal

from btc_ray.settings.job import Job, SettingsError

Order = Literal["urgency", "teaching"]


@dataclass(frozen=True, kw_only=True)
class Review(Job):
    """Show what a reader should see first of a scored archive: a worklist with pictures, drift, decisions, errors by cause."""

    run: str
    """Folder or URI of a complete run: the --output of `btc-ray score`."""

    model: str | None = None
    """The bundle that made the run. Default: where the run says it was."""

    output: str | None = None
    """Folder or URI for review.html, review.json and worklist.parquet. Default: the run folder."""

    rows: int = 2000
    """How many images the page shows at most, about 4 kB each; the most urgent of every kind."""

    order: Order = "urgency"
    """urgency: suspected tumours first, then what the model is unsure of. teaching: what `btc-ray retrain --answers` would learn most from,
    images that the model is unsure of and that are unlike each other, with other probabilities and of other series and folders."""

    sample: int = 0
    """How many images, drawn at random from all that were scored, the page shows beside them. From answers about these
    `btc-ray evaluate --run RUN --answers answers.csv` says how good the model is on this archive. Of 200 with 95 % right one
    knows that 91 to 97 % are."""

    seed: int = 0
    """Seed of the sample. A larger sample of the same seed begins with the smaller one."""

    picture_side: int = 112
    """Longest side of a picture on the page, in pixels. What is read from the page and not only found by it wants 320 or more; a page
    of 2,000 such pictures is 40 MB."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows < 1:
            raise SettingsError("--rows must be at least 1.")
        if self.sample < 0 or not 0 <= self.seed < 2**63:
            raise SettingsError("--sample and --seed are 0 or more.")
        if not 16 <= self.picture_side <= 2048:
            raise SettingsError("--picture-side must be from 16 to 2048 pixels.")
