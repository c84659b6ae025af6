"""`btc-ray JOB --help`: the flags of a job by subject, from the settings themselves; defaults and units as their docstrings have them."""

import ast
import inspect
import itertools
import shutil
import textwrap
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

SUBJECTS: dict[str, tuple[str, ...]] = {
    "What goes in, what comes out": (
        *(
            "path",
            "compare",
            "runs",
            "register",
            "warehouse",
            "catalog",
            "run",
            "review",
            "data",
            "labels",
            "slices",
            "input",
            "output",
            "model",
            "champion",
            "grid",
            "groups",
            "external",
            "answers",
            "fit_rule",
            "rule",
            "cache",
            "json",
            "known",
            "known_by",
            "dry_run",
            "retry_failed",
            "series",
            "sniff",
            "privacy",
            "pseudonym_key",
            "max_unselected_fraction",
        ),
        *(
            "max_bad_fraction",
            "follow_links",
            "shown",
            "rows",
            "sample",
            "order",
            "picture_side",
            "doubtful",
            "max_experiments",
            "images_per_class",
        ),
    ),
    "The images": (
        "classes",
        "keep_labels",
        "crop",
        "size",
        "drop_doubtful_crops",
        "split",
        "folds",
        "validation",
        "test",
        "seed",
        "seeds",
    ),
    "What learns": (
        *(
            "train",
            "weights",
            "epochs",
            "optimizer",
            "learning_rate",
            "momentum",
            "weight_decay",
            "schedule",
            "warmup",
        ),
        *(
            "step_epochs",
            "step_factor",
            "label_smoothing",
            "class_weights",
            "balance_sources",
            "clip",
            "ema",
            "patience",
            "head_first",
        ),
        *("frozen_statistics", "standardise", "one_per_group", "test_time_flips", "target_risk"),
    ),
    "Random changes of the training images": (
        "flips",
        "rotate",
        "scale",
        "shift",
        "intensity",
        "erase",
        "appearance",
        "resolutions",
    ),
    "What computes": (
        "engine",
        "device",
        "precision",
        "batch_size",
        "workers",
        "gpus",
        "local_rows",
        "cpus",
        "address",
        "start_ray",
    ),
    "The job on a cluster": (
        *("shared", "install", "again", "detach", "attach", "stop"),
        *("kind", "name", "namespace", "image", "head_cpus", "head_memory", "cpu_workers", "worker_cpus"),
        *("worker_memory", "gpu_workers", "gpus_each", "gpu_worker_cpus", "gpu_worker_memory", "spot", "cron", "time_zone"),
        *("deadline", "ttl", "retries", "lease", "idle", "service_account", "secrets", "volumes"),
    ),
    "Storage, records and messages": ("storage_options", "mlflow", "sign", "require_signature", "debug"),
}
OTHER = "More"
_INDENT = 6


def help_text(kind: type[Any], *, program: str, description: str) -> str:
    """The whole help of a job as text as wide as the terminal, at most 110 characters."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 110)
    lines = [f"usage: {program} [FLAGS]", ""]
    for paragraph in description.split("\n\n"):
        lines += [*textwrap.wrap(" ".join(paragraph.split()), width), ""]
    docs, hints = _docstrings(kind), get_type_hints(kind)
    for subject, flags in _by_subject(kind):
        lines.append(f"{subject}:")
        for flag in flags:
            lines.append(f"  {_flag(flag, hints[flag.name])}")
            text, indent = _described(flag, docs.get(flag.name, "")), " " * _INDENT
            lines += textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
        lines.append("")
    lines += ["Other:", "  -h, --help", f"{' ' * _INDENT}Show this text."]
    return "\n".join(lines)


def _by_subject(kind: type[Any]) -> Iterator[tuple[str, list[Field[Any]]]]:
    known = {item.name: item for item in fields(kind)}
    for subject, names in SUBJECTS.items():
        if found := [known.pop(name) for name in names if name in known]:
            yield subject, found
    if known:
        yield OTHER, list(known.values())


def _flag(item: Field[Any], hint: Any) -> str:
    name = item.name.replace("_", "-")
    value = _value(hint)
    return f"--{name}, --no-{name}" if value is None else f"--{name} {value}"


def _value(hint: Any) -> str | None:
    """What a flag takes, in a word; None for a switch."""
    if get_origin(hint) in (Union, types.UnionType):
        return _value(next(kind for kind in get_args(hint) if kind is not type(None)))
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        return f"{_value(kinds[0])} …" if kinds[-1] is ... else " ".join(str(_value(kind)) for kind in kinds)
    return None if hint is bool else {int: "N", float: "NUMBER"}.get(hint, "TEXT")


def _described(item: Field[Any], doc: str) -> str:
    """The docstring and, where it does not say it itself, the default."""
    doc = " ".join(doc.split())
    if item.default is MISSING and item.default_factory is MISSING:
        return f"{doc} Needed."
    default = item.default
    if default is None or default is MISSING or default == () or "Default" in doc:
        return doc
    shown = (
        ("yes" if default else "no")
        if isinstance(default, bool)
        else " ".join(map(str, default))
        if isinstance(default, tuple)
        else default
    )
    return f"{doc} Default: {shown}."


def _docstrings(kind: type[Any]) -> dict[str, str]:
    """The string below each field of a settings class and of the classes that it builds on."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for field, below in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                found[field.target.id] = str(ast.literal_eval(below.value))
    return found
