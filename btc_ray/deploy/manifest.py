"""A job, or a cluster for many jobs, as KubeRay YAML: every flag is checked here and now rather than in the cluster at night, every
pod has its limits and no rights, and what costs money goes away by itself. Imports no Ray."""

import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

import yaml

from btc_ray import NOT_FOR_DIAGNOSIS, __version__
from btc_ray.deploy.pods import AUTOSCALER, head_group, worker_group
from btc_ray.errors import UserError
from btc_ray.settings import Job, KubernetesManifest
from btc_ray.settings.parse import divide, parse
from btc_ray.settings.words import command_words, local_places
from btc_ray.storage.redact import redact

DATE = "{date}"

# A job that ends with one of these is complete and has a verdict to tell; a RayJob knows only 0 and failure, and would start again
# what cannot end otherwise.
VERDICTS = {
    "score": (3, "complete, but more images than allowed are not ok; run.json and the summary say which"),
    "evaluate": (3, "complete, but more images than allowed are not ok"),
    "retrain": (5, "complete, and the champion stays; gate.json says why"),
}
RETRIES = 2
NEVER_CONTINUE = ("crop",)


class KubernetesManifestError(UserError):
    """A job that cannot run on the cluster as it is described."""


def manifest(arguments: Sequence[str], jobs: Mapping[str, type[Job]]) -> str:
    """The YAML that `btc-ray manifest ARGUMENTS` prints. `jobs` are those that a cluster can run, with their settings.

    Raises SettingsError and KubernetesManifestError; exits as `parse` does, with 2 where flags are unusable, with 0 after --help.
    """
    own, words = divide(KubernetesManifest, arguments)
    help_wanted = {"-h", "--help"} & set(words)
    job = words.pop(0) if words and not words[0].startswith("-") else None
    _refuse_credentials(arguments)
    chosen = parse(KubernetesManifest, ["--help"] if help_wanted else own, program="btc-ray manifest")
    if chosen.kind == "raycluster":
        if job is not None or words:
            raise KubernetesManifestError(
                "a raycluster runs no job of its own: leave the job out, and send jobs to the cluster later."
            )
        return _yaml(ray_cluster(chosen), arguments)
    if job is None or job not in jobs:
        raise KubernetesManifestError(f"which job? btc-ray manifest JOB takes {', '.join(jobs)}; {job!r} is none of them.")
    settings = parse(jobs[job], words, program=f"btc-ray {job}")
    _refuse_credentials(command_words(settings))  # which --config may have brought
    return _yaml(ray_job(chosen, job, settings), arguments)


def ray_cluster(chosen: KubernetesManifest) -> dict[str, Any]:
    """A RayCluster as plain values."""
    return _named(chosen, "RayCluster", "cluster") | {"spec": _cluster(chosen)}


def ray_job(chosen: KubernetesManifest, job: str, settings: Job) -> dict[str, Any]:
    """A RayJob or a RayCronJob as plain values. Raises KubernetesManifestError."""
    _check(chosen, job, settings)
    retries = (0 if job in NEVER_CONTINUE else RETRIES) if chosen.retries is None else chosen.retries
    spec = {
        "entrypoint": entrypoint(job, settings, time_zone=chosen.time_zone),
        # The other modes paste the entrypoint into a shell script of their own, where our quotes and exit codes would be lost.
        "submissionMode": "HTTPMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": chosen.ttl,
        "activeDeadlineSeconds": chosen.deadline,
        "backoffLimit": retries,
        "rayClusterSpec": _cluster(chosen),
    }
    if chosen.kind == "rayjob":
        return _named(chosen, "RayJob", job) | {"spec": spec}
    return _named(chosen, "RayCronJob", job) | {
        "spec": {"schedule": chosen.cron, "timeZone": chosen.time_zone, "jobTemplate": spec}
    }


def entrypoint(job: str, settings: Job, *, time_zone: str) -> str:
    """The job as lines for `sh`: one flag a line, and the exit code that a RayJob should see."""
    # {date} in quotes of its own, since the words around it are quoted against the shell.
    night = f"\"$(TZ={time_zone} date -d '-12 hours' +%F)\""
    lines = [f"btc-ray {job} --address auto"]
    for word in command_words(settings):
        quoted = night.join(shlex.quote(part) if part else "" for part in word.split(DATE)) or "''"
        if word.startswith("--"):
            lines.append(f"  {quoted}")
        else:
            lines[-1] += f" {quoted}"
    command = " \\\n".join(lines)
    if job not in VERDICTS:
        return command
    code, meaning = VERDICTS[job]
    return f"{command}\ncode=$?\n# {code}: {meaning}.\n[ $code -eq {code} ] || exit $code"


def ray_version() -> str:
    """The installed Ray, which the image must have too; read without importing it."""
    return version("ray")


def _cluster(chosen: KubernetesManifest) -> dict[str, Any]:
    """The spec of a RayCluster. Raises KubernetesManifestError where the image's tag names another Ray."""
    variant = "cuda" if chosen.gpu_workers[1] else "cpu"
    image = chosen.image or f"btc-ray:{__version__}-ray{ray_version()}-{variant}"
    named = re.search(r":.*\bray-?(\d+\.\d+\.\d+)", image)
    if named and named[1] != ray_version():
        raise KubernetesManifestError(
            f"--image {image} has Ray {named[1]}, and here is Ray {ray_version()}. They must be the same."
        )
    groups = []
    if chosen.cpu_workers[1]:
        groups.append(worker_group(chosen, image, gpus=False))
    if chosen.gpu_workers[1]:
        groups.append(worker_group(chosen, image, gpus=True))
    # Who reaches a Ray without a token runs what he likes on it. KubeRay makes one for each cluster and keeps it in a Secret.
    spec: dict[str, Any] = {"rayVersion": ray_version(), "authOptions": {"mode": "token"}}
    if any(group["minReplicas"] < group["maxReplicas"] for group in groups):
        spec["enableInTreeAutoscaling"] = True
        spec["autoscalerOptions"] = {"version": "v2", "idleTimeoutSeconds": chosen.idle} | AUTOSCALER
    return spec | {"headGroupSpec": head_group(chosen, image), "workerGroupSpecs": groups}


def _named(chosen: KubernetesManifest, kind: str, what: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": chosen.name or f"btc-ray-{what}"}
    if chosen.namespace:
        metadata["namespace"] = chosen.namespace
    metadata["labels"] = {"btc-ray/job": what}  # not app.kubernetes.io/name, by which KubeRay knows its own
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": metadata}


def _check(chosen: KubernetesManifest, job: str, settings: Job) -> None:
    """Raise KubernetesManifestError for what would fail only once it runs."""
    if settings.address not in (None, "auto"):
        raise KubernetesManifestError("leave --address out: the job joins the cluster that the manifest describes.")
    if getattr(settings, "device", "auto") == "cuda" and not chosen.gpu_workers[1]:
        raise KubernetesManifestError("--device cuda needs workers that have GPUs: give --gpu-workers FEWEST MOST.")
    if chosen.retries and job in NEVER_CONTINUE:
        raise KubernetesManifestError(f"{job} does not continue in a folder that it has begun: --retries must be 0.")
    if chosen.kind == "raycronjob" and DATE not in str(getattr(settings, "output", "")):
        raise KubernetesManifestError(
            f"--output must hold {DATE}, which becomes the day on which the night began, as in s3://bucket/runs/{DATE}: in the same "
            "folder every night would find the first one's results."
        )
    mounts = chosen.mounts()
    for flag, path in local_places(settings):
        place = PurePosixPath(path)
        if ".." in place.parts or not any(place.is_relative_to(mount) for mount in mounts.values()):
            where = f"under {', '.join(mounts.values())}" if mounts else "to be found there (no --volumes)"
            raise KubernetesManifestError(
                f"{flag} {path} is a path of this machine, and in the pods nothing is {where}. Give a URI (s3://, gs://, az://), or "
                "mount a claim that holds it with --volumes CLAIM=/PATH."
            )


def _refuse_credentials(words: Sequence[str]) -> None:
    for word in words:
        if redact(word) != word:
            raise KubernetesManifestError(
                f"{redact(word)} holds a credential, which anybody could read in the manifest. Put it into a Secret as the environment "
                "variable that fsspec reads, and give --secrets NAME, or let --service-account stand for it."
            )


class _Readable(yaml.SafeDumper):
    """Texts of several lines as blocks, nothing as an alias of something else, lists indented."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


_Readable.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
)


def _yaml(content: Mapping[str, Any], arguments: Sequence[str]) -> str:
    """YAML under a comment with the command that makes it again."""
    command = ""
    for word in ["btc-ray", "manifest", *arguments]:
        command += (" \\\n#   " if word.startswith("--") else " ") + shlex.quote(word)
    head = [f"#{command}", f"# {NOT_FOR_DIAGNOSIS}"]
    if content["kind"] == "RayCronJob":
        head.append("# RayCronJob is alpha: KubeRay's operator must be installed with the feature gate RayCronJob=true.")
    return "\n".join(head) + "\n" + yaml.dump(dict(content), Dumper=_Readable, sort_keys=False, width=130, allow_unicode=True)
