"""`btc-ray crop`: an archive's crops as a table, and a sheet of the most doubtful ones."""

from collections.abc import Collection

from btc_ray import settings
from btc_ray.errors import COMPLETE
from btc_ray.progress import say
from btc_ray.storage import Place
from btc_ray.storage.outputs import check_output
from btc_ray.workers.session import available_cpus, ray_session


def crop(chosen: settings.Crop) -> int:
    """Crop an archive into Parquet, then draw the crops that a person should look at first."""
    from btc_ray.archive.addresses import with_key
    from btc_ray.dataset.crops import crop_in_parallel
    from btc_ray.images.prepare import Preprocess
    from btc_ray.scoring.folder import RunFolder
    from btc_ray.scoring.inputs import list_images
    from btc_ray.scoring.pictures import burned_in

    output = Place(chosen.output, with_key(chosen.input, chosen.storage()))
    crops = output / "crops"
    check_output(output)
    preprocess = Preprocess(crop=chosen.crop, size=chosen.size)
    folder = RunFolder(output)
    summary = list_images(chosen, folder, cpus=chosen.cpus or available_cpus()).summary
    folder.work.remove()
    say(f"{summary.rows:,} images to crop, {sum(tally.count for tally in summary.skipped.values()):,} other files skipped.")
    with ray_session(chosen)():
        crop_in_parallel(folder.manifest, crops, preprocess=preprocess)
    _draw_doubtful(chosen, crops, burned_in(folder))
    print(f"crops        {crops}")
    print(f"doubtful     {output / 'doubtful.png'}")
    return COMPLETE


def _draw_doubtful(chosen: settings.Crop, crops: Place, hidden: Collection[str]) -> None:
    """doubtful.png: the crops with the highest `doubt`, as they come out; not of the series `hidden`, which may show a name."""
    import cv2
    import pyarrow.compute as pc
    import pyarrow.dataset as pads

    from btc_ray.images.batch import pixels_of
    from btc_ray.reports.shared.figures import contact_sheet

    filesystem, path = crops.arrow()
    table = pads.dataset(path, filesystem=filesystem, format="parquet")
    may_be_seen = pc.invert(pc.field("series_key").isin(list(hidden))) if hidden else pc.scalar(True)
    doubts = table.to_table(columns=["row_id", "doubt"], filter=(pads.field("status") == "ok") & may_be_seen)
    worst = doubts.take(
        pc.select_k_unstable(doubts, min(chosen.doubtful, len(doubts)), [("doubt", "descending"), ("row_id", "ascending")])
    )
    shown = table.to_table(
        columns=["uri", "doubt", "crop_status", "pixels"], filter=pads.field("row_id").isin(worst["row_id"].combine_chunks())
    )
    shown = shown.sort_by([("doubt", "descending"), ("uri", "ascending")])
    captions = [f"{row['doubt']:.2f} {row['uri'].rpartition('/')[2]}" for row in shown.select(["uri", "doubt"]).to_pylist()]
    sheet = contact_sheet(list(pixels_of(shown)), captions) if captions else contact_sheet([], [])
    crops.beside("doubtful.png").write(cv2.imencode(".png", sheet)[1].tobytes())
