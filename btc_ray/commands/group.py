"""`btc-ray group`: the tables of series and exams of a scored run, made again without a model, with another rule where one is given."""

import msgspec

from btc_ray import settings
from btc_ray.errors import COMPLETE, RefusedError
from btc_ray.model.bundle import read_bundle
from btc_ray.progress import say
from btc_ray.storage import Place
from btc_ray.studies.rule import RuleError, SeriesRule, check_model, read_rule


def group(chosen: settings.Group) -> int:
    """Write RUN/series and RUN/exams. Raises RefusedError where the run is not complete, RuleError for a rule that is not of its model."""
    from btc_ray.reports.worklist.worklist import healthy_class
    from btc_ray.scoring.folder import EXAMS_PAGE, RunFolder
    from btc_ray.scoring.series import write_groups

    folder = RunFolder(Place(chosen.run, chosen.storage()))
    state = folder.read_state()
    if state is None:
        raise RefusedError(f"{folder.place} is not a run folder; name the --output of btc-ray score.")
    if chosen.rule is not None:
        rule, made = _read(folder.place.at(chosen.rule)), state.fingerprint
        check_model(rule, model_id=made.model_id, preprocess_id=made.preprocess_id, classes=state.classes)
        state = state.changed(series_rule=rule.to_dict())
        if state.complete:
            folder.write_state(state)
            (folder.place / EXAMS_PAGE).remove()  # it told of the labels before
    grouped = write_groups(folder, state, healthy=healthy_class(state.classes))
    if grouped is None:
        say(f"{folder.place} holds pictures and no series; there is nothing to group.")
        return COMPLETE
    print(f"series       {folder.series}  ({grouped.selected:,} of {grouped.series:,} scored)")
    print(f"exams        {folder.exams}  ({grouped.exams - grouped.without:,} of {grouped.exams:,} with a scored series)")
    return COMPLETE


def _read(place: Place) -> SeriesRule:
    """The rule of a bundle, or of a rule.json. Raises RuleError, BundleError."""
    if (place / "bundle.json").exists():
        record = read_bundle(place).decision.get("series_rule")
    else:
        try:
            content = msgspec.json.decode(place.read())
        except (OSError, msgspec.DecodeError) as error:
            raise RuleError(f"--rule {place} is neither a bundle nor a rule.json of `btc-ray evaluate --fit-rule`.") from error
        record = content.get("rule") if isinstance(content, dict) else None
    if not record:
        raise RuleError(f"--rule {place} has no rule for series: `btc-ray evaluate --fit-rule` fits one.")
    return read_rule(record, source=str(place))
