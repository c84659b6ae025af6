"""One frozen dataclass per job: the only source of flags, defaults, help text and YAML keys. Jobs on labelled images have theirs in
labelled_settings.py, those around another job in cluster_settings.py."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

CropMethod = Literal["robust", "kaggle", "none"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Engine = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Split = Literal["group", "folders"]


class SettingsError(ValueError):
    """Settings that cannot be used; the message names the flag or the line of the YAML file."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every job takes."""

    address: str | None = None
    """Where Ray runs: auto (a Ray already on this machine), local (one of its own), or HOST:PORT. Default: $RAY_ADDRESS, else
    a Ray of its own on this machine, started only where the job needs one."""

    cpus: int | None = None
    """CPU cores to use on this machine. Default: all this process may use. Ignored with --address."""

    storage_options: tuple[str, ...] = ()
    """KEY=VALUE pairs for the storage of remote URIs, as fsspec names them (endpoint_url=…). Prefer the environment or a
    profile for credentials: what stands on a command line can be read by others on the machine."""

    debug: bool = False
    """Show the traceback of an error, and Ray's own messages."""

    def __post_init__(self) -> None:
        if self.cpus is not None and self.cpus < 1:
            raise SettingsError("--cpus must be at least 1.")

    def storage(self) -> dict[str, str]:
        """`storage_options` as a mapping of texts. Raises SettingsError."""
        pairs = [option.partition("=") for option in self.storage_options]
        for key, equals, _ in pairs:
            if not key or not equals:
                raise SettingsError(f"--storage-options takes KEY=VALUE; {key!r} is none.")
        return {key: value for key, _, value in pairs}


@dataclass(frozen=True, kw_only=True)
class Demo(Job):
    """Phantom images → retrain → score → report; no network, no data needed."""

    output: str
    """Folder for everything the demo makes."""

    images_per_class: int = 60
    """Phantom images per class to train on; a quarter as many again to test on."""

    epochs: int = 40
    """Passes over the training images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images_per_class < 4 or self.epochs < 1:
            raise SettingsError("--images-per-class must be at least 4 and --epochs at least 1.")


@dataclass(frozen=True, kw_only=True)
class Crop(Job):
    """Crop every image of an archive into Parquet, with the box and what became of each image."""

    input: tuple[str, ...]
    """Folders, globs, images, zip or tar archives, or lists (.txt, .csv, .parquet) of them; paths or URIs."""

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


@dataclass(frozen=True, kw_only=True)
class Score(Job):
    """Score every image of an archive into Parquet: one row per image, nothing lost."""

    model: str
    """Model bundle: a folder or URI made by `btc-ray retrain`."""

    input: tuple[str, ...]
    """Folders, globs, images, zip or tar archives, or lists (.txt, .csv, .parquet) of them; paths or URIs."""

    output: str
    """Run folder or URI. A killed run is continued by running the same command again."""

    dry_run: bool = False
    """Show what would be scored, what would be skipped and why, and the estimated time; write nothing."""

    retry_failed: bool = False
    """Score again only the rows of a complete run that are not ok."""

    max_bad_fraction: float = 0.5
    """Exit with code 3 when more than this share of the images is not ok."""

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
        if self.batch_size is not None and self.batch_size < 1:
            raise SettingsError("--batch-size must be at least 1.")
        if self.dry_run and self.retry_failed:
            raise SettingsError("--dry-run and --retry-failed exclude each other.")


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows < 1:
            raise SettingsError("--rows must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class Info(Job):
    """What a model bundle or a run folder is, at once, or what changed between two runs, without loading torch or Ray."""

    path: str | None = None
    """Model bundle or run folder, a path or URI; `btc-ray info DIR` is short for `--path DIR`. This or --compare is needed."""

    compare: tuple[str, str] | None = None
    """Two complete run folders, paths or URIs, the earlier one first: rows in both and in one, changes of status, label and
    decision, differences of probabilities (0 to 1), and where labels changed. Rows are matched by uri."""

    json: bool = False
    """Print one JSON document instead of text."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.path is None) == (self.compare is None):
            raise SettingsError("give either a folder, as in `btc-ray info DIR`, or --compare RUN1 RUN2.")


def to_dict(settings: Job) -> dict[str, Any]:
    """Settings as plain values for run.json, the values of storage options left out: they may be credentials."""
    values = asdict(settings)
    values["storage_options"] = [f"{option.partition('=')[0]}=…" for option in settings.storage_options]
    return values


def check_size(size: int) -> None:
    """Raises SettingsError where crops cannot have this side, in pixels."""
    if not 1 <= size <= 4096:
        raise SettingsError("--size must be from 1 to 4096 pixels.")
