"""The settings of `btc-ray info`."""

from dataclasses import dataclass

from btc_ray.settings.job import Job, SettingsError


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
