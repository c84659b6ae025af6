"""The settings of `btc-ray group`."""

from dataclasses import dataclass

from btc_ray.settings.job import Job


@dataclass(frozen=True, kw_only=True)
class Group(Job):
    """Make the tables of series and exams of a scored archive of DICOM or NIfTI again, without a model."""

    run: str
    """Folder or URI of a complete run: the --output of `btc-ray score`."""

    rule: str | None = None
    """The rule that labels series from here on: a bundle that has one, or a rule.json of `btc-ray evaluate --fit-rule`. Default: the
    one that the run has, which is that of its bundle when it was begun."""
