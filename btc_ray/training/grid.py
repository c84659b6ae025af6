"""Which recipes are compared: the report's grid, or one from YAML. Everything unusable in it is refused by name before anything runs."""

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

import yaml

from btc_ray.errors import UserError
from btc_ray.settings.recipe import RECIPES, Recipe, RecipeError

REPORT_GRID: list[dict[str, Any]] = [
    {
        "optimizer": ["sgd"],
        "learning_rate": [0.001, 0.01],
        "momentum": [0.5, 0.9],
        "label_smoothing": [0.0, 0.1],
        "schedule": ["constant", "step"],
        "standardise": [False],
    },
    {
        "optimizer": ["nadam"],
        "learning_rate": [0.001, 0.01],
        "label_smoothing": [0.0, 0.1],
        "schedule": ["constant", "step"],
        "standardise": [False],
    },
    {"name": "default of --train head", "standardise": [True]},
]
"""What the report tried, on features as they are, which is what it had; and beside it our own default. 25 recipes."""

_TYPES = get_type_hints(Recipe)
_ALWAYS_SAID = ("optimizer", "learning_rate", "momentum", "label_smoothing", "schedule", "step_epochs", "step_factor")


class GridError(UserError):
    """A grid that cannot be run; the message names the file and the setting."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A recipe with a name for people, unique in its grid. `experiment_id` is that of the recipe whatever it is called."""

    name: str
    recipe: Recipe

    @property
    def experiment_id(self) -> str:
        """The first 16 hex digits of a sha256 over the settings that are not the defaults of `Recipe`, so that a setting which a
        later version adds does not make another recipe of an old one."""
        values = asdict(self.recipe)
        changed = {item.name: values[item.name] for item in fields(Recipe) if values[item.name] != item.default}
        return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:16]


def read_grid(content: bytes, source: str, *, most: int) -> list[Experiment]:
    """The experiments of a YAML grid; `source` is its name in messages. Raises GridError, as `expand` does."""
    try:
        found = yaml.safe_load(content.decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise GridError(f"{source} is not YAML: {error}") from error
    return expand(found, source, most=most)


def expand(grid: Any, source: str, *, most: int) -> list[Experiment]:
    """All experiments of a grid, in its order and each recipe once.

    Args:
        grid: a mapping of recipe settings to values or lists of values, all combinations of which are meant, or a list of such
            mappings, whose union is meant. Settings that are not named are those of `--train head`. `schedule: constant` is the
            step schedule that never steps; `name` names what a mapping gives.
        source: the grid's name in messages.
        most: as many combinations are accepted.

    Settings without effect (momentum without SGD, step settings without steps) do not make two recipes of one. Raises GridError.
    """
    blocks = [grid] if isinstance(grid, Mapping) else grid
    if not isinstance(blocks, Sequence) or isinstance(blocks, str) or not blocks:
        raise GridError(f"{source} is empty, or neither a mapping of settings to lists nor a list of such mappings.")
    wanted = [_block(block, source) for block in blocks]
    if (count := sum(math.prod(len(values) for values in settings.values()) for _, settings in wanted)) > most:
        raise GridError(
            f"{source} has {count:,} combinations, more than {most:,}. Shorten its lists, or ask for it: --max-experiments {count}."
        )
    found: dict[Recipe, str | None] = {}
    for name, settings in wanted:
        for recipe in _recipes(settings, source):
            found.setdefault(recipe, name)
    return _named(found)


def _block(block: Any, source: str) -> tuple[str | None, dict[str, list[Any]]]:
    """A mapping's name, and its settings as lists of values of the right type."""
    if not isinstance(block, Mapping):
        raise GridError(f"{source}: {block!r} is no mapping of settings to lists, as in `learning_rate: [0.001, 0.01]`.")
    name = block.get("name")
    if name is not None and not (isinstance(name, str) and name.strip()):
        raise GridError(f"{source}: name is {name!r}; it must be a text.")
    settings = {}
    for key, value in block.items():
        if key == "name":
            continue
        setting = str(key).replace("-", "_")
        if setting not in _TYPES:
            raise GridError(f"{source}: {key} is no setting of a recipe. There are {', '.join(sorted(_TYPES))}.")
        values = value if isinstance(value, list) else [value]
        if not values:
            raise GridError(f"{source}: {key} has no values.")
        settings[setting] = [_typed(setting, one, source) for one in values]
    return name, settings


def _typed(name: str, value: Any, source: str) -> Any:
    """`value` as the setting's type; YAML reads 1e-3 as a text. Raises GridError."""
    kind = _TYPES[name]
    if kind is bool and not isinstance(value, bool):
        raise GridError(f"{source}: {name} is {value!r}; it can be true or false.")
    if kind is int and (isinstance(value, bool) or not isinstance(value, int)):
        raise GridError(f"{source}: {name} is {value!r}; it must be a whole number.")
    if kind is float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise GridError(f"{source}: {name} is {value!r}; it must be a number.")
        return number
    if name == "train" and value != "head":
        raise GridError(f"{source}: train is {value!r}; experiments train the head, on features made once.")
    return value


def _recipes(settings: Mapping[str, Sequence[Any]], source: str) -> Iterator[Recipe]:
    head = RECIPES["head"]
    for values in itertools.product(*settings.values()):
        chosen = dict(zip(settings, values, strict=True))
        if chosen.get("schedule") == "constant":
            chosen |= {"schedule": "step", "step_epochs": 0}
        try:
            recipe = head.changed(**chosen)
        except RecipeError as error:
            raise GridError(f"{source}: {error}") from error
        unused = set()
        if recipe.optimizer != "sgd":
            unused.add("momentum")
        if recipe.schedule != "step":
            unused |= {"step_epochs", "step_factor"}
        elif not recipe.step_epochs:
            unused.add("step_factor")
        yield recipe.changed(**{name: getattr(head, name) for name in unused})


def _named(found: Mapping[Recipe, str | None]) -> list[Experiment]:
    """Names that say what differs within the grid: beside what is always said, what differs from most."""
    usual = {item.name: Counter(getattr(recipe, item.name) for recipe in found).most_common(1)[0][0] for item in fields(Recipe)}
    given = Counter(found.values())
    experiments: list[Experiment] = []
    taken: set[str] = set()
    for recipe, name in found.items():
        title = describe(recipe, usual)
        title = title if name is None else name if given[name] == 1 else f"{name}: {title}"
        experiment = Experiment(name=title, recipe=recipe)
        if title in taken:
            experiment = Experiment(name=f"{title} ({experiment.experiment_id[:6]})", recipe=recipe)
        taken.add(experiment.name)
        experiments.append(experiment)
    return experiments


def describe(recipe: Recipe, usual: Mapping[str, Any]) -> str:
    """`SGD 0.001 · momentum 0.9 · cross-entropy · step`, and every other setting that is not as `usual` has it."""
    parts = [f"{ {'sgd': 'SGD', 'nadam': 'NAdam', 'adamw': 'AdamW'}[recipe.optimizer] } {recipe.learning_rate:g}"]
    if recipe.optimizer == "sgd":
        parts.append(f"momentum {recipe.momentum:g}")
    parts.append(f"label smoothing {recipe.label_smoothing:g}" if recipe.label_smoothing else "cross-entropy")
    parts.append(_schedule(recipe))
    for item in fields(Recipe):
        value = getattr(recipe, item.name)
        if item.name not in _ALWAYS_SAID and value != usual[item.name]:
            parts.append(f"{item.name.replace('_', ' ')} {('no', 'yes')[value] if isinstance(value, bool) else value}")
    return " · ".join(parts)


def _schedule(recipe: Recipe) -> str:
    head = RECIPES["head"]
    if recipe.schedule != "step":
        return recipe.schedule
    if not recipe.step_epochs:
        return "constant"
    if (recipe.step_epochs, recipe.step_factor) == (head.step_epochs, head.step_factor):
        return "step"
    return f"step × {recipe.step_factor:g} every {recipe.step_epochs}"
