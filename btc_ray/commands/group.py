"""`btc-ray group`: the tables of series and exams of a scored run, made again without a model."""

from btc_ray import settings
from btc_ray.errors import COMPLETE, RefusedError
from btc_ray.progress import say
from btc_ray.storage import Place


def group(chosen: settings.Group) -> int:
    """Write RUN/series and RUN/exams. Raises RefusedError where the run is not complete."""
    from btc_ray.reports.worklist.worklist import healthy_class
    from btc_ray.scoring.folder import RunFolder
    from btc_ray.scoring.series import write_groups

    folder = RunFolder(Place(chosen.run, chosen.storage()))
    state = folder.read_state()
    if state is None:
        raise RefusedError(f"{folder.place} is not a run folder; name the --output of btc-ray score.")
    grouped = write_groups(folder, state, healthy=healthy_class(state.classes))
    if grouped is None:
        say(f"{folder.place} holds pictures and no series; there is nothing to group.")
        return COMPLETE
    print(f"series       {folder.series}  ({grouped.selected:,} of {grouped.series:,} scored)")
    print(f"exams        {folder.exams}  ({grouped.exams - grouped.without:,} of {grouped.exams:,} with a scored series)")
    return COMPLETE
