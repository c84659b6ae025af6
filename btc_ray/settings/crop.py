"""The settings of `btc-ray crop`."""

from dataclasses import dataclass

from btc_ray.settings.job import CropMethod, check_size
from btc_ray.settings.studies import Studies


@dataclass(frozen=True, kw_only=True)
class Crop(Studies):
    """Crop every image of an archive into Parquet, with the box and what became of each image."""

    input: tuple[str, ...]
    """Folders, globs, images, zip or tar archives, or lists (.txt, .csv, .tsv, .parquet) of them; paths or URIs."""

    follow_links: bool = False
    """Follow links that lead out of an input folder too; else they are counted and left."""

    output: str
    """Folder or URI for crops/*.parquet, and doubtful.png: the crops that a person should look at first."""

    crop: CropMethod = "robust"
    """How the head is found: robust, kaggle (the data set author's method, faithful to its faults), or none (whole frame)."""

    size: int = 224
    """Side of the square crop, in pixels."""

    doubtful: int = 48
    """How many of the most doubtful crops doubtful.png shows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self.size)
