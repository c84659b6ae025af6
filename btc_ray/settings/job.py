"""What every job takes, and the words that several jobs share."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from btc_ray.errors import UserError

CropMethod = Literal["robust", "kaggle", "none"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Engine = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Split = Literal["group", "folders"]


class SettingsError(UserError):
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


def to_dict(settings: Job) -> dict[str, Any]:
    """Settings as plain values for run.json, the values of storage options left out: they may be credentials."""
    values = asdict(settings)
    values["storage_options"] = [f"{option.partition('=')[0]}=…" for option in settings.storage_options]
    return values


def check_size(size: int) -> None:
    """Raises SettingsError where crops cannot have this side, in pixels."""
    if not 1 <= size <= 4096:
        raise SettingsError("--size must be from 1 to 4096 pixels.")
