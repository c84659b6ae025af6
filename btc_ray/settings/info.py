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

    register: str | None = None
    """NAMESPACE.TABLE of an Iceberg catalogue that gets the rows of the run (or of the complete ones of --runs), each run once and only
    once: what is sent again, also after a kill, changes nothing. Needs --warehouse or --catalog, and btc-ray[iceberg]."""

    warehouse: str | None = None
    """Folder for the tables of --register, with a catalogue in SQLite (catalog.db) beside them where --catalog names no other."""

    catalog: tuple[str, ...] = ()
    """KEY=VALUE pairs for another catalogue of --register, as PyIceberg names them: type=rest uri=https://…. Prefer its own
    configuration (PYICEBERG_CATALOG__…) for credentials."""

    json: bool = False
    """Print one JSON document instead of text."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum((self.path is not None, self.compare is not None, bool(self.runs))) != 1:
            raise SettingsError("give either a folder, as in `btc-ray info DIR`, or --compare RUN1 RUN2, or --runs RUN ….")
        if self.register is None:
            if self.warehouse is not None or self.catalog:
                raise SettingsError("--warehouse and --catalog are those of --register NAMESPACE.TABLE.")
            return
        if self.compare is not None or self.json:
            raise SettingsError("--register takes a run or --runs, and neither --compare nor --json.")
        if not all(self.register.rpartition(".")):
            raise SettingsError("--register takes NAMESPACE.TABLE, as in brain.scores.")
        if self.warehouse is None and not self.catalog:
            raise SettingsError("--register needs --warehouse FOLDER, or --catalog KEY=VALUE … of a catalogue that is there.")
        self.catalog_properties()

    def catalog_properties(self) -> dict[str, str]:
        """`catalog` as a mapping of texts. Raises SettingsError."""
        pairs = [option.partition("=") for option in self.catalog]
        if any(not key or not equals for key, equals, _ in pairs):
            raise SettingsError("--catalog takes KEY=VALUE pairs.")
        return {key: value for key, _, value in pairs}
