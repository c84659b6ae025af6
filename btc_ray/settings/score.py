"""The settings of `btc-ray score`."""

from dataclasses import dataclass
from typing import Literal

from btc_ray.settings.job import Device, Engine, Precision, SettingsError
from btc_ray.settings.studies import Studies

KnownBy = Literal["listing", "content"]


@dataclass(frozen=True, kw_only=True)
class Score(Studies):
    """Score every image of an archive into Parquet: one row per image, nothing lost."""

    model: str
    """Model bundle: a folder or URI made by `btc-ray retrain`."""

    require_signature: str | None = None
    """File of a public key (PEM): a bundle that the key's owner did not sign, as it is, is refused. Needs btc-ray[sign]."""

    input: tuple[str, ...]
    """Folders, globs, images, zip or tar archives, or lists (.txt, .csv, .tsv, .parquet) of them; paths or URIs."""

    follow_links: bool = False
    """Follow links that lead out of an input folder too; else they are counted and left."""

    output: str
    """Run folder or URI. A killed run is continued by running the same command again."""

    max_unselected_fraction: float = 1.0
    """Exit with code 3 when more than this share of the studies has no series that was scored."""

    dry_run: bool = False
    """Show what would be scored, what would be skipped and why, and the estimated time; leave nothing behind."""

    known: tuple[str, ...] = ()
    """Earlier runs, as URIs and globs (s3://bucket/runs/*): what a complete one of them scored ok with this model and preprocessing is
    not read again and gets no row. Changed files are scored again; how many were known stands in run.json."""

    known_by: KnownBy = "listing"
    """listing: by URI, size and time of change or ETag, without reading. content: by the sha256 of the bytes, wherever they stand now;
    every file is read, and decoded only where it is new."""

    lease: float = 60.0
    """Seconds after which another driver may take over a run folder on S3 from one that died. While one lives it renews its lease, and a
    second one is refused (exit code 4)."""

    retry_failed: bool = False
    """Score again only the rows of a complete run that are not ok."""

    max_bad_fraction: float = 0.5
    """Exit with code 3 when more than this share of the images is not ok; those that are known from earlier runs are."""

    engine: Engine = "auto"
    """What computes: torch, or openvino (x86 CPUs; pip install 'btc-ray[cpu]'); auto takes openvino where it is installed and no
    GPU is used. A run that is continued goes on with what it was begun with."""

    device: Device = "auto"
    """Where the model runs; auto takes a GPU where there is one."""

    precision: Precision = "auto"
    """Arithmetic of the model; auto takes bf16 or fp16 where the hardware has it, else fp32. int8 (openvino, CPUs with VNNI) is the
    fastest; auto takes it only where the bundle records that it agreed with fp32."""

    batch_size: int | None = None
    """Images per call of the model. Default: 8 on a CPU, 256 on a GPU."""

    local_rows: int = 2000
    """Fewer images than this are scored in this process, without starting Ray, unless --address is given. 0: always Ray."""

    gpus: float = 1.0
    """GPUs per model on a Ray cluster; a fraction lets several models share one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.input:
            raise SettingsError("--input is empty: name a folder, glob, archive, list or image.")
        if self.gpus <= 0:
            raise SettingsError("--gpus must be more than 0; to score without GPUs give --device cpu.")
        if not 0 <= self.max_bad_fraction <= 1:
            raise SettingsError("--max-bad-fraction is a share between 0 and 1.")
        if not 0 <= self.max_unselected_fraction <= 1:
            raise SettingsError("--max-unselected-fraction is a share between 0 and 1.")
        if self.lease < 1:
            raise SettingsError("--lease must be at least 1 second.")
        if self.batch_size is not None and self.batch_size < 1:
            raise SettingsError("--batch-size must be at least 1.")
        if self.dry_run and self.retry_failed:
            raise SettingsError("--dry-run and --retry-failed exclude each other.")
