"""`btc-ray demo`, the whole way on a laptop: phantom images → a trained bundle → what it is worth → a scored archive, broken files among
it → what a reader should see first.

No network and no data: the network begins with random weights and learns on synthetic heads, so the figures say that the pipe is whole
and what its pages look like, not how good a model of patients' images would be.
"""

import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from btc_ray import settings, storage
from btc_ray.commands.evaluate import evaluate
from btc_ray.commands.retrain import retrain
from btc_ray.commands.review import review
from btc_ray.commands.score import score
from btc_ray.errors import COMPLETE, UserError
from btc_ray.phantoms.phantom import write_phantoms
from btc_ray.phantoms.studies import write_studies
from btc_ray.progress import duration, say
from btc_ray.scoring.folder import EXAMS_PAGE
from btc_ray.scoring.state import read_state
from btc_ray.workers.session import ray_session

SIDE = 128  # px of a phantom: a seventh of the time of 512, and enough for what the model sees
SIZE = 64  # px that the model sees: twelve times faster than 224
VALIDATION = 0.2  # of the training images
TARGET_RISK = 0.05  # 128 validation images can show no less: even with none wrong the bound is 3 ÷ 128
LOG = "demo.log"


class DemoError(UserError):
    """A folder that the demo would have to overwrite."""


def demo(chosen: settings.Demo) -> int:
    """Make the demo in `chosen.output`; returns the exit code of scoring. Raises DemoError where the folder holds something else."""
    if not storage.is_local(chosen.output):
        raise DemoError("--output of the demo is a folder on this machine.")
    home = Path(storage.local_path(chosen.output))
    mark = home / ".btc-ray-demo"
    if home.exists() and any(home.iterdir()) and not mark.exists():
        raise DemoError(f"{home} is not empty; give the demo a folder of its own.")
    home.mkdir(parents=True, exist_ok=True)
    mark.touch()  # what stands beside it is the demo's, and is made anew
    data, archive, model, run, report = made = [home / name for name in ("data", "archive", "model", "run", "evaluation")]
    studies, exams = made_of_studies = [home / name for name in ("studies", "exams")]
    for path in made + made_of_studies:
        shutil.rmtree(path, ignore_errors=True)
    (home / LOG).unlink(missing_ok=True)
    job: dict[str, Any] = {"address": chosen.address, "cpus": chosen.cpus, "debug": chosen.debug}
    held_out = max(1, chosen.images_per_class // 4)

    with _phase(home, f"1/6  Synthetic heads: {4 * chosen.images_per_class:,} to learn from, {4 * held_out:,} to measure with"):
        write_phantoms(data, per_class=chosen.images_per_class, seed=4 * chosen.seed + 1, splits=("Training",), size=(SIDE, SIDE))
        write_phantoms(data, per_class=held_out, seed=4 * chosen.seed + 2, splits=("Testing",), size=(SIDE, SIDE))
    with ray_session(settings.Demo(output=chosen.output, **job))():
        with _phase(home, f"2/6  Training a ResNet18 from random weights, {chosen.epochs} epochs") as result:
            retrain(_training(chosen, data, model, job))
            test = json.loads((model / "bundle.json").read_text())["metrics"]["test"]
            result(f"{test['accuracy']:.1%} of {test['images']:,} unseen heads right")
        with _phase(home, "3/6  Measuring it, as `btc-ray evaluate` does") as result:
            evaluate(settings.Evaluate(data=str(data), output=str(report), model=(str(model),), **job))
        with _phase(home, "4/6  Scoring an archive: a folder, a zip, and files that are broken") as result:
            make_archive(archive, per_class=held_out, seed=4 * chosen.seed + 3)
            code = score(settings.Score(model=str(model), input=(str(archive),), output=str(run), **job))
            counts = read_state(storage.Place(str(run))).counts
            assert counts is not None
            not_ok = counts.rows - counts.status.get("ok", 0)
            result(
                f"{counts.rows:,} rows, {not_ok} of them not ok with their reason, {counts.decision.get('accept', 0)} accepted"
            )
        with _phase(home, "5/6  Scoring an archive of a hospital's kind: DICOM and BIDS, four exams") as result:
            write_studies(studies, seed=4 * chosen.seed + 4, side=SIDE)
            code = score(settings.Score(model=str(model), input=(str(studies),), output=str(exams), **job)) or code
            found = read_state(storage.Place(str(exams))).studies
            result(f"{found['series_selected']} of {found['series']} series scored, the others counted by reason")
        with _phase(home, "6/6  What a reader should see first, as `btc-ray review` does"):
            review(settings.Review(run=str(run), **job))
            review(settings.Review(run=str(exams), **job))
    print("\nThe first rows of the table:")
    table = pq.read_table(run / "scores", columns=["uri", "status", "label", "confidence", "decision", "error"])
    first = table.slice(0, 8).to_pandas().fillna("–")
    first["uri"] = first["uri"].str.removeprefix(f"{archive}/")
    print(first.to_string(index=False, max_colwidth=40, float_format="{:.3f}".format))
    print("\nFour pages to open:")
    pages = {
        run / "summary.html": "the scored archive",
        run / "review.html": "its images, the most urgent first",
        exams / EXAMS_PAGE: "the exams of the hospital's archive, series by series",
        report / "evaluation.html": "what the model is worth",
    }
    for page, what in pages.items():
        print(f"  {page}   {what}")
    return code or COMPLETE


def _training(chosen: settings.Demo, data: Path, model: Path, job: dict[str, Any]) -> settings.Retrain:
    return settings.Retrain(
        data=str(data),
        output=str(model),
        weights="none",
        train="all",
        size=SIZE,
        resolutions=(SIZE,),
        epochs=chosen.epochs,
        learning_rate=0.002,
        split="folders",
        validation=VALIDATION,
        target_risk=TARGET_RISK,
        seed=chosen.seed,
        **job,
    )


@contextmanager
def _phase(home: Path, what: str) -> Iterator[Callable[[str], None]]:
    """One line a phase: what it is, what came of it, how long it took. What its commands say goes to the log, and is shown where they
    fail."""
    results: list[str] = []
    began = time.monotonic()
    with (home / LOG).open("a", encoding="utf-8") as log:
        place = log.tell()
        try:
            with redirect_stdout(log), redirect_stderr(log):
                yield results.append
        except BaseException:
            log.flush()
            say((home / LOG).read_text(encoding="utf-8")[place:])
            raise
    say(f"{what}: {''.join(f'{text}, ' for text in results)}{duration(time.monotonic() - began)}")


def make_archive(folder: Path, *, per_class: int, seed: int) -> None:
    """Phantoms as loose files and in a zip, and among them files of the kinds that real archives have."""
    loose = write_phantoms(folder / "loose", per_class=per_class, seed=seed, splits=("night",), size=(SIDE, SIDE))
    packed = write_phantoms(folder / "packed", per_class=per_class, seed=seed + 1, splits=("night",), size=(SIDE, SIDE))
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        for path in packed:
            archive.write(path, path.relative_to(folder / "packed"))
        archive.writestr("__MACOSX/._phantom.jpg", b"\0" * 64)
    shutil.rmtree(folder / "packed")
    broken = folder / "broken"
    broken.mkdir()
    whole = loose[0].read_bytes()
    (broken / "empty.jpg").write_bytes(b"")
    (broken / "cut short.jpg").write_bytes(whole[: len(whole) // 2])
    (broken / "a report.jpg").write_text("FINDINGS: none. This is text that someone named .jpg.")
    (broken / "notes.txt").write_text("not an image, and not scored")
    (broken / "half a zip.zip").write_bytes((folder / "packed.zip").read_bytes()[:4000])
