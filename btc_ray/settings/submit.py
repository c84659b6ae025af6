"""What `btc-ray submit` takes beside the flags of the job it carries."""

import os
import re
from dataclasses import dataclass

from btc_ray.settings.job import SettingsError


@dataclass(frozen=True, kw_only=True)
class Submit:
    """Run a job on a cluster and follow it: btc-ray submit JOB [the job's flags] [these flags], in any order.

    The code travels; data and libraries are the cluster's. The exit code is the job's. A job that is running already, or has
    succeeded, is not run again. Tokens and headers as Ray reads them: RAY_AUTH_MODE=token with RAY_AUTH_TOKEN, RAY_JOB_HEADERS.
    """

    address: str | None = None
    """Ray Jobs endpoint, the dashboard of the cluster's head: http://HEAD:8265. Default: $RAY_API_SERVER_ADDRESS."""

    shared: tuple[str, ...] = ()
    """Folders that every node of the cluster has at the same path (NFS, a mounted volume). Other local paths are refused."""

    install: bool = False
    """Install the libraries of this environment, in the same versions, on the cluster before the job starts. Default: its image
    has them."""

    again: bool = False
    """Run the job once more although it has succeeded before."""

    detach: bool = False
    """Do not follow the job: return when it is submitted."""

    attach: str | None = None
    """Follow the submission of this id, whose job need not be given."""

    stop: str | None = None
    """Stop the submission of this id. What it finished stays, and the same command goes on from there."""

    def __post_init__(self) -> None:
        if not re.match(r"https?://", self.endpoint()):
            raise SettingsError(f"--address takes the http:// or https:// address of the dashboard, not {self.endpoint()!r}.")
        if self.attach and self.stop:
            raise SettingsError("--attach and --stop exclude each other.")

    def endpoint(self) -> str:
        """The address, from the flag or the environment."""
        return self.address or os.environ.get("RAY_API_SERVER_ADDRESS") or ""
