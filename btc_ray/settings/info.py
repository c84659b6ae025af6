"""The settings of `btc-ray info`."""

from dataclasses import dataclass

from btc_ray.settings.job import Job, SettingsError


@dataclass(frozen=True, kw_only=True)
class Info(Job):
    """What a model bundle or a run folder is, at once, or what changed between runs, without loading torch or Ray."""

    path: str | None = None
    """Model bundle or run folder, a path or URI; `btc-ray info DIR` is short for `--path DIR`. This, --compare or --runs is needed."""

    compare: tuple[str, str] | None = None
    """Two complete run folders, paths or URIs, the earlier one first: rows in both and in one, changes of status, label and
    decision, differences of probabilities (0 to 1), and where labels changed. Rows are matched by uri."""

    runs: tuple[str, ...] = ()
    """Many runs over one archive, as URIs and globs (s3://bucket/runs/*): what each added, the newest row of every image in numbers, what
    changed, and what the last listing did not meet. Runs go by the time at which they were finished, rows are matched by uri."""

    json: bool = False
    """Print one JSON document instead of text."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum((self.path is not None, self.compare is not None, bool(self.runs))) != 1:
            raise SettingsError("give either a folder, as in `btc-ray info DIR`, or --compare RUN1 RUN2, or --runs RUN ….")
