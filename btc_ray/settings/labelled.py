"""What the jobs on labelled images share: the data, and what training takes."""

from dataclasses import dataclass
from typing import Literal

from btc_ray.settings.job import CropMethod, SettingsError, Split
from btc_ray.settings.studies import Studies


@dataclass(frozen=True, kw_only=True)
class Labelled(Studies):
    """What every job on labelled images takes."""

    data: str
    """DATA/Training/<class>/* and DATA/Testing/<class>/* (also Validation), or DATA/<class>/*, or a Parquet/CSV table with the columns
    uri,label[,split][,group][,source]."""

    output: str
    """Folder or URI for what the job makes."""

    labels: str | None = None
    """CSV or Parquet table that labels an archive of DICOM or NIfTI, which --data then is: label [,split] [,first_slice,last_slice], and
    what it is of: path, sop_uid, series_uid, study_uid, patient_id, sub and ses (BIDS), or a key of RUN/series. The most specific wins."""

    slices: Literal["all", "middle", "masked"] = "all"
    """Which slices a label of a whole series, exam or patient is for: all, the middle third of each series, or masked: those in
    which a mask beside them (NIfTI, DICOM SEG) has 50 mm² or more. Slices that --labels names themselves are always taken."""

    groups: str | None = None
    """CSV or Parquet table of whose the images are: patient, and path (relative to --data), uri, or key (a file's name). No patient is
    then on two sides of a split, and intervals are those of patients. Joined with copies, and with the column group of --data. Default:
    the table of the published data set, where --data is recognised as that by names and pixels (and not with --split folders, which
    keeps the published sides); none: no table."""

    keep_labels: bool = False
    """Leave the four labels of the published data set as they are that the authors of its images contradict; else they are corrected,
    aloud."""

    follow_links: bool = False
    """Follow links that lead out of the folder of --data too; else they are counted and left."""

    cache: str | None = None
    """Folder or URI where crops, copies and features are kept for the next job on the same data. Default: OUTPUT/../.btc-ray-cache."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels is None and self.slices != "all":
            raise SettingsError("--slices is for an archive with --labels.")

    def cache_uri(self) -> str:
        """`cache`, or a folder beside the output."""
        return self.cache or f"{self.output.rstrip('/').rpartition('/')[0] or '.'}/.btc-ray-cache"


@dataclass(frozen=True, kw_only=True)
class Training(Labelled):
    """What the jobs that train take."""

    weights: str = "imagenet"
    """Initial weights: imagenet (torchvision's, fetched once), none (random), or the URI of a ResNet18 state dict."""

    classes: tuple[str, ...] = ()
    """The classes to learn, by name; images of other labels are left out and counted aloud. Default: all that the data has, where no
    name looks like a mistake (glioma beside Glioma, a folder called images)."""

    answers: tuple[str, ...] = ()
    """Readers' answers, as the page of `btc-ray review` saves them (answers.csv). An answer beats the label of --data, and answered
    images that are not in --data are added; not a head, unsure, and what readers contradict each other about is left out."""

    split: Split = "group"
    """group: train, validation and test by patient where one is known, joined with copies (mirrored ones too), so that neither is on two
    sides, whatever the folders say; folders: the published Training and Testing, to compare with others."""

    validation: float = 0.1
    """Share of the images, or with --split folders of the training images, that choose the best epoch; never test images."""

    test: float = 0.2
    """Share of the images held out to measure, with --split group."""

    crop: CropMethod = "robust"
    """How the head is found: robust, kaggle (the data set author's method), or none (whole frame)."""

    drop_doubtful_crops: float | None = None
    """Leave out images whose crop has at least this doubt (0 to 1); split.parquet lists them."""

    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.validation < 1 and 0 < self.test < 1 and self.validation + self.test < 1):
            raise SettingsError("--validation and --test are shares between 0 and 1, and together less than 1.")
        if self.drop_doubtful_crops is not None and not 0 <= self.drop_doubtful_crops <= 1:
            raise SettingsError("--drop-doubtful-crops is a doubt from 0 to 1.")
