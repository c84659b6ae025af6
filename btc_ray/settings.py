"""One frozen dataclass per job: the only source of flags, defaults, help text and YAML keys.

`parse` turns a command line (and `--config FILE.yaml`, whose entries are flags that the command line overrides) into settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

CropMethod = Literal["robust", "kaggle", "none"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


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
        _check_size(self.size)


@dataclass(frozen=True, kw_only=True)
class Retrain(Job):
    """Train a model bundle on a labelled data set."""

    data: str
    """DATA/Training/<class>/* and DATA/Testing/<class>/*, or DATA/<class>/*, or a Parquet/CSV table with uri,label[,split][,group]."""

    output: str
    """Folder or URI for the model bundle."""

    weights: str = "imagenet"
    """Initial weights: imagenet (torchvision's, fetched once), none (random), or the URI of a ResNet18 state dict."""

    train: Literal["head"] = "head"
    """What learns: head trains the last layer on features of the frozen backbone."""

    epochs: int = 24
    """Passes over the training images."""

    batch_size: int = 64
    """Images per training step, over all workers."""

    learning_rate: float = 0.001
    """Step size of the optimizer at the start."""

    optimizer: Literal["sgd", "nadam"] = "nadam"
    """sgd uses --momentum."""

    momentum: float = 0.9
    """Momentum of sgd."""

    label_smoothing: float = 0.0
    """Share of the target's probability spread over all classes, 0 to 1."""

    step_epochs: int = 7
    """The learning rate is multiplied by --step-factor every so many epochs; 0 keeps it constant."""

    step_factor: float = 0.5
    """Factor of the step schedule."""

    standardise: bool = True
    """Train the head on features brought to mean 0 and deviation 1 of the training images, and fold that into its weights
    afterwards: the same network, sooner trained."""

    flips: bool = True
    """Train on random left-right and up-down flips."""

    validation: float = 0.15
    """Share of the training images held out to choose the best epoch; never taken from the test images."""

    workers: int = 1
    """Training processes. They share every batch, so that the result does not depend on their number."""

    crop: CropMethod = "robust"
    """How the head is found: robust, kaggle (the data set author's method), or none (whole frame)."""

    size: int = 224
    """Side of the square crop, in pixels."""

    seed: int = 0
    """Seed of everything random."""

    cache: str | None = None
    """Folder or URI where crops and features are kept for the next job on the same data. Default: OUTPUT/../.btc-ray-cache."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "batch_size", "workers"):
            if getattr(self, name) < 1:
                raise SettingsError(f"--{name.replace('_', '-')} must be at least 1.")
        _check_size(self.size)
        if not 0 < self.validation < 1:
            raise SettingsError("--validation is a share between 0 and 1.")
        if not 0 <= self.label_smoothing < 1:
            raise SettingsError("--label-smoothing is a share from 0 to below 1.")


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

    device: Device = "auto"
    """Where the model runs; auto takes a GPU where there is one."""

    precision: Precision = "auto"
    """Arithmetic of the model; auto takes bf16 or fp16 where the hardware has it, else fp32."""

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
class Info(Job):
    """What a model bundle or a run folder is, at once, without loading torch or Ray."""

    path: str
    """Model bundle or run folder."""

    json: bool = False
    """Print JSON."""


JobSettings = TypeVar("JobSettings", bound=Job)


def parse(kind: type[JobSettings], arguments: Sequence[str], *, program: str) -> JobSettings:
    """Settings from a command line. Exits with code 2, saying why, where they are unusable; with 0 after --help."""
    import tyro

    arguments = list(arguments)
    if kind is Info and arguments and not arguments[0].startswith("-"):
        arguments.insert(0, "--path")  # `btc-ray info DIR`
    description = f"{kind.__doc__}\n\nEvery flag may stand in a YAML file given as --config FILE; flags win over the file."
    return tyro.cli(
        kind,
        prog=program,
        args=_with_config(kind, arguments),
        description=description,
    )


def to_dict(settings: Job) -> dict[str, Any]:
    """Settings as plain values for run.json, the values of storage options left out: they may be credentials."""
    values = asdict(settings)
    values["storage_options"] = [f"{option.partition('=')[0]}=…" for option in settings.storage_options]
    return values


def _check_size(size: int) -> None:
    if not 1 <= size <= 4096:
        raise SettingsError("--size must be from 1 to 4096 pixels.")


def _with_config(kind: type[Job], arguments: Sequence[str]) -> list[str]:
    """Replace `--config FILE` by the file's entries as flags, put first so that the command line wins."""
    rest, from_file = [], []
    iterator = iter(arguments)
    for argument in iterator:
        name, equals, value = argument.partition("=")
        if name != "--config":
            rest.append(argument)
            continue
        file = value if equals else next(iterator, None)
        if file is None:
            raise SettingsError("--config takes the name of a YAML file.")
        from_file += _flags(kind, _read_yaml(file), file)
    return from_file + rest


def _read_yaml(file: str) -> Mapping[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(Path(file).read_text())
    except OSError as error:
        raise SettingsError(f"--config {file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"--config {file} is not YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise SettingsError(f"--config {file} must hold names and values, one per line, as in `batch_size: 64`.")
    return content


def _flags(kind: type[Job], content: Mapping[str, Any], file: str) -> list[str]:
    known = {item.name for item in fields(kind)}
    flags = []
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise SettingsError(f"--config {file}: {key} is no setting of this job. It takes {', '.join(sorted(known))}.")
        flag = f"--{name.replace('_', '-')}"
        match value:
            case None:
                continue
            case bool():
                flags.append(flag if value else f"--no-{flag[2:]}")
            case Mapping():
                flags += [flag, *(f"{entry}={item}" for entry, item in value.items())]
            case list():
                flags += [flag, *map(str, value)]
            case _:
                flags += [flag, str(value)]
    return flags
