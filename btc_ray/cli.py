"""`btc-ray JOB …`: settings in, job out; no logic of its own."""

import difflib
import errno
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from btc_ray import NOT_FOR_DIAGNOSIS, __version__, settings
from btc_ray.errors import COMPLETE, FAILED, INTERRUPTED, UNUSABLE, BtcRayError, UserError
from btc_ray.progress import say
from btc_ray.settings.parse import parse
from btc_ray.storage.streams import open_closed_streams, redacted_streams, what_was_lost
from btc_ray.workers.session import Terminated, keep_to_this_machine, sigterm_as_interrupt

FULL = ". Make room where --output is and run the same command again: it continues"


@dataclass(frozen=True, kw_only=True)
class Command:
    settings: type[Any]  # of Job, or what stands beside another job's flags
    run: Callable[..., int]  # settings in, exit code out
    around_a_job: bool = False  # `run` takes the words as they are: they hold another job and its flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; returns its exit code. What it prints holds no credentials."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    open_closed_streams()
    with redacted_streams():
        code, lost = _main(arguments), what_was_lost()
        if lost is None or isinstance(lost, BrokenPipeError):  # `btc-ray info … | head`
            return code
        say(f"btc-ray: what it printed is lost: {lost.strerror or lost}.")
        return FAILED if code == COMPLETE and arguments[:1] != [] and arguments[0] in PRINTED else code


def _main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return COMPLETE if arguments else UNUSABLE
    if arguments[0] == "--version":
        print(f"btc-ray {__version__}")
        return COMPLETE
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        say(f"btc-ray: there is no job {name!r}; there are {', '.join(COMMANDS)}.{hint}")
        return UNUSABLE
    command, debug = COMMANDS[name], "--debug" in rest
    try:
        chosen = rest if command.around_a_job else parse(command.settings, rest, program=f"btc-ray {name}")
        secrets = {}
        if isinstance(chosen, settings.Job):
            secrets = chosen.storage()
            keep_to_this_machine(chosen.address)
    except UserError as error:
        return _explain(error, debug=debug)
    with redacted_streams(secrets), sigterm_as_interrupt():
        try:
            return command.run(chosen)
        except KeyboardInterrupt as stopped:
            what = "Terminated" if isinstance(stopped, Terminated) else "Interrupted"
            say(f"\n{what}. Running the same command again continues where it stopped.")
            return INTERRUPTED
        except Exception as error:  # noqa: BLE001 - the last stop before a person
            return _explain(error, debug=debug)


def _explain(error: Exception, *, debug: bool) -> int:
    """Say what was wrong; an error of this package, or of the file system, needs no traceback."""
    ours = _ours(error)
    of_a_worker = type(error).__module__.startswith("ray.")
    if debug or not (of_a_worker or isinstance(error, BtcRayError | OSError)):
        traceback.print_exception(error)
    if ours is not None:
        say(f"btc-ray: {ours}")
        return ours.exit_code
    message = str(error)
    if of_a_worker:  # its own error stands last, under the tracebacks of both sides
        message = next((line.strip() for line in reversed(message.splitlines()) if line.strip()), "")
    full = (
        "No space left" in message if of_a_worker else isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    )
    say(f"btc-ray: {message or type(error).__name__}{FULL if full else ''}")
    if of_a_worker:
        say("This is what a worker ended with; --debug shows its traceback. Running the same command again continues.")
    return FAILED


def _ours(error: BaseException | None) -> BtcRayError | None:
    """The error of this package that `error` is or was caused by: Ray passes on a worker's as the cause or an argument of its own."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        found = waiting.pop()
        if isinstance(found, BtcRayError):
            return found
        if isinstance(found, BaseException) and id(found) not in seen and type(found).__module__.startswith("ray."):
            seen.add(id(found))
            waiting += [getattr(found, "cause", None), found.__cause__, *found.args]
    return None


def _usage() -> str:
    jobs = "\n".join(f"  {name:<11} {(command.settings.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items())
    return (
        f"btc-ray {__version__}: score archives of brain MRI images and retrain the model that does it, on Ray.\n"
        f"{NOT_FOR_DIAGNOSIS}\n\nJobs:\n{jobs}\n\n"
        "`btc-ray JOB --help` shows a job's flags, units and defaults."
    )


# One function a job: it imports what the job needs, so that `--help` and `info` answer at once.


def _demo(chosen: settings.Demo) -> int:
    from btc_ray.commands.demo import demo

    return demo(chosen)


def _crop(chosen: settings.Crop) -> int:
    from btc_ray.commands.crop import crop

    return crop(chosen)


def _audit(chosen: settings.Audit) -> int:
    from btc_ray.commands.audit.audit import audit

    return audit(chosen)


def _retrain(chosen: settings.Retrain) -> int:
    from btc_ray.commands.retrain import retrain

    return retrain(chosen)


def _experiments(chosen: settings.Experiments) -> int:
    from btc_ray.commands.experiments import experiments

    return experiments(chosen)


def _evaluate(chosen: settings.Evaluate) -> int:
    from btc_ray.commands.evaluate import evaluate

    return evaluate(chosen)


def _score(chosen: settings.Score) -> int:
    from btc_ray.commands.score import score

    return score(chosen)


def _group(chosen: settings.Group) -> int:
    from btc_ray.commands.group import group

    return group(chosen)


def _review(chosen: settings.Review) -> int:
    from btc_ray.commands.review import review

    return review(chosen)


def _submit(words: Sequence[str]) -> int:
    from btc_ray.deploy.submit import submit

    return submit(words, _cluster_jobs())


def _manifest(words: Sequence[str]) -> int:
    from btc_ray.deploy.manifest import manifest

    print(manifest(words, _cluster_jobs()), end="")
    return COMPLETE


def _cluster_jobs() -> dict[str, type[settings.Job]]:
    """The jobs that a cluster can run, with their settings."""
    return {name: command.settings for name, command in COMMANDS.items() if name in CLUSTER_JOBS}


def _doctor(chosen: settings.Doctor) -> int:
    from btc_ray.commands.doctor.doctor import doctor

    return doctor(chosen)


def _info(chosen: settings.Info) -> int:
    from btc_ray.commands.info import info

    return info(chosen)


COMMANDS = {
    "demo": Command(settings=settings.Demo, run=_demo),
    "crop": Command(settings=settings.Crop, run=_crop),
    "audit": Command(settings=settings.Audit, run=_audit),
    "retrain": Command(settings=settings.Retrain, run=_retrain),
    "experiments": Command(settings=settings.Experiments, run=_experiments),
    "evaluate": Command(settings=settings.Evaluate, run=_evaluate),
    "score": Command(settings=settings.Score, run=_score),
    "group": Command(settings=settings.Group, run=_group),
    "review": Command(settings=settings.Review, run=_review),
    "submit": Command(settings=settings.Submit, run=_submit, around_a_job=True),
    "manifest": Command(settings=settings.KubernetesManifest, run=_manifest, around_a_job=True),
    "info": Command(settings=settings.Info, run=_info),
    "doctor": Command(settings=settings.Doctor, run=_doctor),
}
PRINTED = ("info", "doctor", "manifest", "--help", "-h", "--version")  # whose result is what they print
CLUSTER_JOBS = ("crop", "audit", "retrain", "experiments", "evaluate", "score")

if __name__ == "__main__":
    sys.exit(main())
