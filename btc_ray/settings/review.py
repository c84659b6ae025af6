"""The settings of `btc-ray review`."""

from dataclasses import dataclass

from btc_ray.settings.job import Job, SettingsError


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

    picture_side: int = 112
    """Longest side of a picture on the page, in pixels. What is read from the page and not only found by it wants 320 or more; a page
    of 2,000 such pictures is 40 MB."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows < 1:
            raise SettingsError("--rows must be at least 1.")
        if not 16 <= self.picture_side <= 2048:
            raise SettingsError("--picture-side must be from 16 to 2048 pixels.")
