"""A command line, and `--config FILE.yaml` whose entries are flags that the command line overrides, into settings."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from btc_ray.errors import COMPLETE
from btc_ray.settings import Info, Job, Retrain, SettingsError
from btc_ray.settings.help import help_text
from btc_ray.settings.recipe import RECIPES

Chosen = TypeVar("Chosen")


def parse(kind: type[Chosen], arguments: Sequence[str], *, program: str) -> Chosen:
    """Settings from a command line. Exits with code 2, saying why, where they are unusable; with 0 after --help."""
    arguments = list(arguments)
    if kind is Info and arguments and not arguments[0].startswith("-"):
        arguments.insert(0, "--path")  # `btc-ray info DIR`
    description = f"{kind.__doc__}"
    if issubclass(kind, Job):
        description += "\n\nEvery flag may stand in a YAML file given as --config FILE; flags win over the file."
    if kind is Retrain:
        description += f"\n\n{_recipes()}"
    if any(word in ("-h", "--help") for word in arguments):
        print(help_text(kind, program=program, description=description))
        raise SystemExit(COMPLETE)
    import tyro

    return tyro.cli(
        kind,
        prog=program,
        args=_switches(kind, _with_config(kind, arguments)),
        description=description,
    )


def divide(kind: type[Any], arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that belong to the flags of `kind`, and all others: another job's. A flag takes the words up to the next flag."""
    names = {f"--{item.name.replace('_', '-')}" for item in fields(kind)}
    own: list[str] = []
    others: list[str] = []
    words = others
    for argument in arguments:
        if argument.startswith("--"):
            words = own if argument.partition("=")[0].replace("_", "-") in names else others
        words.append(argument)
    return own, others


def _switches(kind: type[Any], arguments: Sequence[str]) -> list[str]:
    """`--flips` and `--no-flips` for settings that may also be left to the recipe, as for those that may not."""
    switches = {f"--{item.name.replace('_', '-')}" for item in fields(kind) if item.type == bool | None}
    written: list[str] = []
    for position, argument in enumerate(arguments):
        following = arguments[position + 1] if position + 1 < len(arguments) else ""
        if argument in switches and following not in ("True", "False", "None"):
            written += [argument, "True"]
        elif argument.startswith("--no-") and f"--{argument[5:]}" in switches:
            written += [f"--{argument[5:]}", "False"]
        else:
            written.append(argument)
    return written


def _recipes() -> str:
    """The recipes as text: what the flags of training are where they are not given."""
    lines = ["Recipes, which the flags change:"]
    for name, recipe in RECIPES.items():
        values = asdict(recipe)
        del values["train"]
        line = ", ".join(f"{key.replace('_', '-')} {_word(value)}" for key, value in values.items())
        lines.append(f"--train {name}: {line}.")
    return "\n\n".join(lines)


def _word(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case tuple():
            return " ".join(map(str, value)) or "none"
        case _:
            return f"{value}"


def _with_config(kind: type[Any], arguments: Sequence[str]) -> list[str]:
    """Replace `--config FILE` by the file's entries as flags, put first so that the command line wins."""
    rest, from_file = [], []
    iterator = iter(arguments)
    for argument in iterator:
        name, equals, value = argument.partition("=")
        if name != "--config":
            rest.append(argument)
            continue
        file = value if equals else next(iterator, None)
        if file is None:
            raise SettingsError("--config takes the name of a YAML file.")
        from_file += _flags(kind, _read_yaml(file), file)
    return from_file + rest


def _read_yaml(file: str) -> Mapping[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(Path(file).read_text())
    except OSError as error:
        raise SettingsError(f"--config {file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"--config {file} is not YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise SettingsError(f"--config {file} must hold names and values, one per line, as in `batch_size: 64`.")
    return content


def _flags(kind: type[Any], content: Mapping[str, Any], file: str) -> list[str]:
    known = {item.name for item in fields(kind)}
    flags = []
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise SettingsError(f"--config {file}: {key} is no setting of this job. It takes {', '.join(sorted(known))}.")
        flag = f"--{name.replace('_', '-')}"
        match value:
            case None:
                continue
            case bool():
                flags.append(flag if value else f"--no-{flag[2:]}")
            case Mapping():
                flags += [flag, *(f"{entry}={item}" for entry, item in value.items())]
            case list():
                flags += [flag, *map(str, value)]
            case _:
                flags += [flag, str(value)]
    return flags
