"""What the jobs share that read an archive of DICOM or NIfTI."""

from dataclasses import dataclass
from typing import Literal

from btc_ray.settings.job import Job


@dataclass(frozen=True, kw_only=True)
class Studies(Job):
    """What every job takes that may meet DICOM or NIfTI."""

    series: tuple[str, ...] = ("anatomical",)
    """Which series of DICOM and NIfTI are taken: anatomical, all, or KEY=VALUE … as the columns of RUN/series have them
    (weighting=t1 contrast_agent=true plane=axial). Series that are left out are counted by reason."""

    sniff: Literal["auto", "none"] = "auto"
    """Whether files whose names promise nothing are looked into for DICOM; none for stores where each look costs."""

    privacy: Literal["auto", "on", "off"] = "auto"
    """on: paths, identifiers, names and dates stay in a folder `private`, and keys stand in their place. auto: on where there is
    DICOM."""

    pseudonym_key: str | None = None
    """File with the secret that keys are made with, so that what several jobs make can be linked. Default: $BTC_RAY_PSEUDONYM_KEY,
    else one of the job's own in its folder `private`."""
