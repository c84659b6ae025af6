"""`btc-ray submit`: a job on a cluster through Ray Jobs, followed to its end. Code travels, data and libraries do not.

The submission id is made from the job and its settings, so that the same job is never run twice at once.
"""

import asyncio
import hashlib
import ipaddress
import json
import logging
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from packaging.requirements import Requirement

from btc_ray import storage
from btc_ray.errors import COMPLETE, FAILED, INTERRUPTED, UserError
from btc_ray.progress import say
from btc_ray.settings import Job, Submit, to_dict
from btc_ray.settings.parse import divide, parse
from btc_ray.settings.words import command_words, local_places
from btc_ray.storage.redact import redact

DETACHED = INTERRUPTED
MOST_BYTES = 20 << 20  # of code; Ray's endpoint takes 100 MiB
_RETURNING = (1, 2, 4, 8, 15, 30, 60, 60, 60, 60)  # seconds between tries to reach an endpoint that was there: five minutes
_STARTING = (1, 2, 4, 8, 15, 30)  # seconds between tries to hand over a job to a cluster that is still starting: one minute


class SubmissionError(UserError):
    """A job that cannot be submitted, or a submission that cannot be found."""


def submit(arguments: Sequence[str], jobs: Mapping[str, type[Job]]) -> int:
    """`btc-ray submit ARGUMENTS`; the job's exit code. `jobs` are those that a cluster can run, with their settings.

    Raises SettingsError and SubmissionError; exits as `parse` does, with 2 where flags are unusable, with 0 after --help.
    """
    own, words = divide(Submit, arguments)
    help_wanted = {"-h", "--help"} & set(words)
    name = words.pop(0) if words and not words[0].startswith("-") else None
    chosen = parse(Submit, ["--help"] if help_wanted else own, program="btc-ray submit")
    if known := chosen.attach or chosen.stop:
        return _return_to(chosen, known)
    if name is None or name not in jobs:
        raise SubmissionError(f"which job? btc-ray submit JOB takes {', '.join(jobs)}; {name!r} is none of them.")
    return send(chosen, name, parse(jobs[name], words, program=f"btc-ray {name}"))


def send(chosen: Submit, name: str, job: Job) -> int:
    """Submit the job and follow it; its exit code. One that runs already is followed, one that succeeded is not repeated.

    Raises SubmissionError where the cluster cannot be reached or could not run the job.
    """
    check_visible(job, shared=chosen.shared)
    if any(redact(word) != word for word in command_words(job)):
        raise SubmissionError(
            "a flag holds a credential, which everybody who sees the cluster's dashboard could read. Give it to the cluster's pods "
            "or nodes as the environment variable that fsspec reads."
        )
    client = _client(chosen.endpoint())
    _check_version(client)
    *tried, new = _attempts(client, submission_id(name, job))
    if tried:
        last, status = tried[-1], _status(client, tried[-1])
        if status in ("PENDING", "RUNNING"):
            say(f"This job is {status.lower()} already, as {last}.")
            return _detached(chosen, last) if chosen.detach else follow(client, last, chosen.endpoint())
        if status == "SUCCEEDED" and not chosen.again:
            say(f"This job is complete already, as {last}; --again runs it once more. Its log:")
            return follow(client, last, chosen.endpoint())
        say(f"{last} {str(status).lower()}; {new} goes on where it stopped.")
    _submit(client, new, name, job, install=chosen.install)
    print(f"submitted    {new}", flush=True)
    return _detached(chosen, new) if chosen.detach else follow(client, new, chosen.endpoint())


def _return_to(chosen: Submit, submission: str) -> int:
    """Follow or stop a submission that is there already."""
    client = _client(chosen.endpoint())
    if _status(client, submission) is None:
        ours = sorted(job.submission_id for job in client.list_jobs() if (job.submission_id or "").startswith("btc-ray-"))
        raise SubmissionError(f"this cluster has no submission {submission}; it has {', '.join(ours) or 'none of btc-ray'}.")
    if chosen.attach:
        return follow(client, submission, chosen.endpoint())
    print(f"{'stopped' if client.stop_job(submission) else 'was over'}      {submission}")
    return COMPLETE


def _detached(chosen: Submit, submission: str) -> int:
    _say_how_to_return(submission, chosen.endpoint())
    return COMPLETE


def follow(client: Any, submission: str, address: str) -> int:
    """Print the log as it grows, until the job is over; its exit code. Ctrl-C leaves the job running and says how to come back."""
    try:
        _stream(client, submission)
    except KeyboardInterrupt:
        say("\nDetached; the job goes on.")
        _say_how_to_return(submission, address)
        return DETACHED
    info = client.get_job_info(submission)
    if info.status == "SUCCEEDED":
        return COMPLETE
    reason = (info.message or "").partition(", last available logs")[0].strip() or "no reason given"  # the log stands above
    say(f"{submission} {info.status.lower()}: {reason}")
    return info.driver_exit_code or FAILED


def submission_id(name: str, job: Job) -> str:
    """`btc-ray-score-1a2b3c4d5e6f`: the job and a hash of its settings, credentials left out."""
    settings = {**to_dict(job), "debug": None, "address": None, "cpus": None}
    return f"btc-ray-{name}-{hashlib.sha256(json.dumps([name, settings], sort_keys=True).encode()).hexdigest()[:12]}"


def check_visible(job: Job, *, shared: Sequence[str]) -> None:
    """Raises SubmissionError for a path of this machine that the cluster may not see: one not below a folder of `shared`."""
    folders = [Path(storage.local_path(folder)) for folder in shared]
    for flag, path in local_places(job):
        if not any(Path(storage.local_path(path)).is_relative_to(folder) for folder in folders):
            raise SubmissionError(
                f"{flag} {path} is a path on this machine, which the cluster does not see. Give a URI (s3://, gs://, az://), or "
                "--shared FOLDER where every node of the cluster has that folder at the same path."
            )
        if not Path(path).is_absolute():
            raise SubmissionError(
                f"{flag} {path} is a relative path, and the job runs in another folder: write it from the root."
            )


def _client(address: str) -> Any:
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise SubmissionError(f"submitting needs a package that is missing ({error}): pip install 'btc-ray[cluster]'.") from error
    # Ray lets these win over what it is told, and so would send the job elsewhere without a word.
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)
    logging.getLogger("ray").setLevel(logging.WARNING)  # the job's own log is what a person follows
    _past_the_proxy(address)
    try:
        headers = json.loads(os.environ.get("RAY_JOB_HEADERS") or "null")
        return JobSubmissionClient(address, headers=headers)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SubmissionError(
            f"no Ray Jobs endpoint at {address} ({redact(reason)}){_through_proxy(address)}. It is the dashboard of the cluster's head, as "
            "in http://HEAD:8265; a cluster with token authentication wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN."
        ) from error


def _past_the_proxy(address: str) -> None:
    """An endpoint on this machine, as a forwarded port is, is not asked for through the proxy that the environment names."""
    host = urlsplit(address).hostname or ""
    if host != "localhost" and not _is_loopback(host):
        return
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), host)))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _through_proxy(address: str) -> str:
    """Words for an error where the endpoint was asked for through a proxy; empty where it was not."""
    parts = urlsplit(address)
    proxy = getproxies().get(parts.scheme)
    if proxy is None or proxy_bypass(parts.hostname or ""):
        return ""
    name = f"{parts.scheme.upper()}_PROXY"
    return f", asked for through the proxy {redact(proxy)} that {name} names: set NO_PROXY={parts.hostname} to go past it"


def _check_version(client: Any) -> None:
    # What the client was told when it connected; its get_version() answers with the version of the endpoint alone.
    there, here = client._server_ray_version, metadata.version("ray")
    if there != here:
        raise SubmissionError(
            f"the cluster runs Ray {there}, and this is Ray {here}: jobs go between equal versions only. Use an image with "
            f"Ray {here}, or pip install 'ray=={there}' here."
        )


def _submit(client: Any, submission: str, name: str, job: Job, *, install: bool) -> None:
    package = Path(__file__).parents[1]  # btc_ray itself
    size = sum(file.stat().st_size for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    assert size < MOST_BYTES, size
    environment: dict[str, Any] = {
        "py_modules": [str(package)],
        "excludes": ["__pycache__", "*.pyc"],
        "env_vars": {"PYTHONUNBUFFERED": "1"},
    }
    if install:
        environment["pip"] = pinned()
    entrypoint = shlex.join(["python", "-m", "btc_ray.cli", name, *command_words(job)])
    for pause in (*_STARTING, None):
        try:
            client.submit_job(
                entrypoint=entrypoint,
                submission_id=submission,
                runtime_env=environment,
                metadata={"btc_ray": metadata.version("btc-ray")},
            )
            return
        except RuntimeError as error:
            if _status(client, submission) is not None:  # somebody was a moment faster with the same job
                return
            if pause is None or "try again" not in str(error):  # a cluster that has just started has no agent for jobs yet
                raise SubmissionError(f"the cluster refused the job: {str(error).strip().splitlines()[-1]}") from error
            time.sleep(pause)


def pinned() -> list[str]:
    """The libraries that btc-ray depends on, with the versions installed here; Ray itself is the cluster's."""
    wanted = [Requirement(text) for text in metadata.requires("btc-ray") or ()]
    names = [item.name for item in wanted if item.name != "ray" and (item.marker is None or item.marker.evaluate({"extra": ""}))]
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in names]


def _attempts(client: Any, base: str) -> list[str]:
    """The submissions of this job that the cluster knows, in order, and the id of the next one."""
    ids = [base]
    while _status(client, ids[-1]) is not None:
        ids.append(f"{base}-{len(ids) + 1}")
    return ids


def _status(client: Any, submission: str) -> str | None:
    try:
        return str(client.get_job_status(submission).value)
    except RuntimeError as error:
        if "404" in str(error) or "does not exist" in str(error):
            return None
        raise


def _stream(client: Any, submission: str) -> None:
    """Print the log until the job is over. A connection that breaks is made again, and what was printed is not printed twice."""
    printed = failures = 0

    async def tail() -> None:
        nonlocal printed, failures
        seen = 0
        async for text in client.tail_job_logs(submission):
            seen += len(text)
            if (new := seen - printed) > 0:
                print(text[-new:], end="", flush=True)
                printed, failures = seen, 0

    while True:
        try:
            asyncio.run(tail())
            if _status(client, submission) not in ("PENDING", "RUNNING"):
                return
            time.sleep(1)
        except Exception as error:
            if failures == len(_RETURNING):
                raise SubmissionError(
                    f"the cluster does not answer any more ({type(error).__name__}). The job may go on: --attach {submission} comes back."
                ) from error
            time.sleep(_RETURNING[failures])
            failures += 1


def _say_how_to_return(submission: str, address: str) -> None:
    say(f"Come back:  btc-ray submit --attach {submission} --address {address}")
    say(f"Stop it:    btc-ray submit --stop {submission} --address {address}")
