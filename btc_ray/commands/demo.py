"""The whole way on a laptop: phantom images → a trained bundle → a scored archive, broken files among it → the report.

No network and no data: the weights are random and the backbone frozen, so the figures say that the pipe is whole, not how good a model is.
"""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from btc_ray import settings, storage
from btc_ray.commands.retrain import retrain
from btc_ray.commands.score import score
from btc_ray.errors import UserError
from btc_ray.phantoms.phantom import write_phantoms
from btc_ray.progress import say


class DemoError(UserError):
    """A folder that the demo would have to overwrite."""


def demo(chosen: settings.Demo) -> int:
    """Make the demo in `chosen.output`; returns the exit code of scoring. Raises DemoError where the folder holds something else."""
    if not storage.is_local(chosen.output):
        raise DemoError("--output of the demo is a folder on this machine.")
    home = Path(storage.local_path(chosen.output))
    made = [home / name for name in ("data", "archive", "model", "run")]
    mark = home / ".btc-ray-demo"
    if home.exists() and any(home.iterdir()) and not mark.exists():
        raise DemoError(f"{home} is not empty; give the demo a folder of its own.")
    home.mkdir(parents=True, exist_ok=True)
    mark.touch()  # what stands beside it is the demo's, and is made anew
    for path in made:
        shutil.rmtree(path, ignore_errors=True)
    data, archive, model, run = made
    say(f"1. Phantom images into {data}")
    write_phantoms(data, per_class=chosen.images_per_class, seed=1, splits=("Training",))
    write_phantoms(data, per_class=max(1, chosen.images_per_class // 4), seed=2, splits=("Testing",))
    say("2. Training a head on a frozen backbone of random weights")
    job: dict[str, Any] = {"address": chosen.address, "cpus": chosen.cpus, "debug": chosen.debug}
    retrain(
        settings.Retrain(
            data=str(data),
            output=str(model),
            weights="none",
            train="head",
            epochs=chosen.epochs,
            learning_rate=0.01,
            step_epochs=15,
            **job,
        )
    )
    say(f"3. An archive to score in {archive}: a folder, a zip, and files that are broken")
    make_archive(archive, per_class=max(1, chosen.images_per_class // 4))
    code = score(settings.Score(model=str(model), input=(str(archive),), output=str(run), **job))
    print("\nThe first rows of the table:")
    table = pq.read_table(run / "scores", columns=["uri", "status", "label", "confidence", "error"]).slice(0, 8).to_pandas()
    table["uri"] = table["uri"].str.removeprefix(f"{archive}/")
    print(table.to_string(index=False, max_colwidth=48))
    return code


def make_archive(folder: Path, *, per_class: int) -> None:
    """Phantoms as loose files and in a zip, and among them files of the kinds that real archives have."""
    loose = write_phantoms(folder / "loose", per_class=per_class, seed=3, splits=("night",))
    packed = write_phantoms(folder / "packed", per_class=per_class, seed=4, splits=("night",))
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
