"""The settings of `btc-ray evaluate`."""

from dataclasses import dataclass

from btc_ray.settings.job import Device, Engine, Precision, SettingsError
from btc_ray.settings.labelled import Labelled


@dataclass(frozen=True, kw_only=True)
class Evaluate(Labelled):
    """Measure model bundles on labelled images (--model and --data): score them as at night, then say what the numbers are worth. Or say
    from readers' answers how good a model is on the archive that it has scored (--run and --answers)."""

    data: str = ""
    """DATA/Training/<class>/* and DATA/Testing/<class>/* (also Validation), or DATA/<class>/*, or a Parquet/CSV table with the columns
    uri,label[,split][,group]. Needed without --run."""

    output: str = ""
    """Folder or URI for what the job makes. Default with --run: the run folder, which gets answers.json. Needed without it."""

    run: str | None = None
    """Folder or URI of a complete run that `btc-ray review` has shown, best with --sample; in place of --model and --data."""

    answers: tuple[str, ...] = ()
    """With --run: readers' answers, as the page of `btc-ray review` saves them (answers.csv)."""

    review: str | None = None
    """With --run: folder or URI of the review, where it was given an --output. Default: the run folder."""

    fit_rule: bool = False
    """With --run and --labels: fit the rule from slices to series on labelled patients (30 with a tumour and 30 without at least), measure
    it on patients that it has not seen, and write it to rule.json and into the bundle. With --model and --data in place of --run the
    archive is scored first."""

    model: tuple[str, ...] = ()
    """Model bundles: one trained with --split folders, one with --split group, or both, side by side."""

    external: tuple[str, ...] = ()
    """NAME=DATA of labelled images from elsewhere, each as --data takes them: measured apart, by source (the column source of a
    table, else NAME). A class called tumor or tumour, or a label such as glioma|pituitary, is right with any class it may mean; of
    these it is told how many are called a tumour."""

    engine: Engine = "auto"
    """What computes: torch, or openvino (x86 CPUs; pip install 'btc-ray[cpu]'); auto takes openvino where it is installed and no
    GPU is used. A run that is continued goes on with what it was begun with."""

    device: Device = "auto"
    """Where the model runs; auto takes a GPU where there is one."""

    precision: Precision = "auto"
    """Arithmetic of the model; auto takes bf16 or fp16 where the hardware has it, else fp32; int8 as in `btc-ray score`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fit_rule:
            self._check_fit()
        elif self.run is None:
            if self.answers or self.review:
                raise SettingsError("--answers and --review are about a run: name it with --run.")
            if not self.model:
                raise SettingsError("--model is empty: name a bundle made by `btc-ray retrain`.")
            if missing := [f"--{name}" for name in ("data", "output") if not getattr(self, name)]:
                raise SettingsError(f"{' and '.join(missing)} must be given with --model.")
        elif not self.answers:
            raise SettingsError("--run needs --answers: what the page of `btc-ray review` saves.")
        elif self.model or self.data:
            raise SettingsError("--run is in place of --model and --data: give one or the other.")
        self.elsewhere()

    def _check_fit(self) -> None:
        if self.labels is None:
            raise SettingsError("--fit-rule needs --labels: a table that labels series, exams or patients.")
        if self.answers or self.review or self.external or self.slices != "all":
            raise SettingsError("--fit-rule is about series: --answers, --review, --external and --slices are not for it.")
        if len(self.model) > 1:
            raise SettingsError("--fit-rule fits the rule of one model: name one bundle.")
        if self.run is None and (missing := [f"--{name}" for name in ("data", "model", "output") if not getattr(self, name)]):
            raise SettingsError(f"--fit-rule needs a scored archive (--run), or {', '.join(missing)} to score one.")
        if self.run is not None and self.data:
            raise SettingsError("--run is in place of --data: give one or the other.")

    def elsewhere(self) -> dict[str, str]:
        """The data of `external` by name. Raises SettingsError."""
        pairs = [one.partition("=") for one in self.external]
        for name, equals, data in pairs:
            if not name or not equals or not data:
                raise SettingsError(f"--external takes NAME=DATA; {name!r} is none.")
        found = {name: data for name, _, data in pairs}
        if len(found) < len(pairs):
            raise SettingsError("--external gives two sets of images the same name.")
        return found
