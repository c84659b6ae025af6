"""What `btc-ray manifest` writes is what KubeRay takes, runs the job that was asked for, costs nothing when it is done and tells no
secret."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from btc_ray import cli
from btc_ray.deploy import manifest
from btc_ray.settings import KubernetesManifest, Retrain, Score
from btc_ray.settings.parse import parse
from tests.conftest import SHARED

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
WRITTEN = ("score-overnight", "retrain-gpu", "interactive")
JOBS = {name: cli.COMMANDS[name].settings for name in cli.CLUSTER_JOBS}
SCORE = ["score", "--model", "s3://b/model", "--input", "s3://b/in", "--output", "s3://b/{date}"]
EVERYTHING = ["--namespace", "mri", "--gpu-workers", "0", "2", "--gpus-each", "4", "--spot", "cloud.google.com/gke-spot=true"]
EVERYTHING += ["--service-account", "btc-ray", "--secrets", "s3", "azure", "--volumes", "data=/data", "models=/models"]
EXAMPLES = {
    "a job": SCORE,
    "a job with everything": [*SCORE, *EVERYTHING],
    "a job every night": [*SCORE, *EVERYTHING, "--kind", "raycronjob", "--cron", "0 20 * * 1-5", "--time-zone", "Europe/Zurich"],
    "a cluster": ["--kind", "raycluster"],
    "a cluster with everything": ["--kind", "raycluster", *EVERYTHING],
    "a job on GPUs alone": [
        "retrain",
        "--data",
        "s3://b/d",
        "--output",
        "s3://b/m",
        "--cpu-workers",
        "0",
        "0",
        "--gpu-workers",
        "1",
        "1",
    ],
} | {f"{name}.yaml": [] for name in WRITTEN}


def made(*arguments: str) -> Any:
    return yaml.safe_load(manifest.manifest(arguments, JOBS))


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest) -> Any:
    """Each kind, small and large, and each file of cluster/."""
    arguments = EXAMPLES[request.param]
    return made(*arguments) if arguments else yaml.safe_load((CLUSTER / request.param).read_text())


def job_spec(content: Mapping[str, Any]) -> Any:
    return content["spec"]["jobTemplate"] if content["kind"] == "RayCronJob" else content["spec"]


def cluster_spec(content: Mapping[str, Any]) -> Any:
    return content["spec"] if content["kind"] == "RayCluster" else job_spec(content)["rayClusterSpec"]


def pods(content: Mapping[str, Any]) -> Iterator[Any]:
    cluster = cluster_spec(content)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]["spec"]


# What KubeRay takes


@pytest.fixture(scope="module")
def kuberay_schemas() -> dict[str, Any]:
    """By kind, the schemas of KubeRay's custom resources, which hold those of Kubernetes for the pods in them; made strict."""
    folder = SHARED / "schemas" / "kuberay"
    if not folder.exists():
        pytest.skip("needs ../shared/schemas/kuberay, which a fresh clone does not have")
    schemas = {}
    for file in folder.glob("*.yaml"):
        resource = yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]
        newest = next(entry for entry in resource["versions"] if entry["name"] == "v1")
        schemas[resource["names"]["kind"]] = strict(newest["schema"]["openAPIV3Schema"])
    return schemas


def strict(schema: Any) -> Any:
    """A schema in which what is not named is an error, where Kubernetes would drop it in silence."""
    if isinstance(schema, list):
        return [strict(entry) for entry in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = {
        key: {name: strict(entry) for name, entry in value.items()} if key == "properties" else strict(value)
        for key, value in schema.items()
    }
    if "properties" in inner and not inner.get("x-kubernetes-preserve-unknown-fields"):
        inner.setdefault("additionalProperties", False)
    return inner


def test_kuberay_knows_every_field(example: Any, kuberay_schemas: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(kuberay_schemas[example["kind"]]).validate(example)
    assert example["apiVersion"] == "ray.io/v1"
    assert set(example["metadata"]) <= {"name", "namespace", "labels"}


def test_a_misspelt_field_of_a_pod_would_be_found(kuberay_schemas: dict[str, Any]) -> None:
    content = made(*SCORE)
    next(pods(content))["containers"][0]["securityContext"]["runAsRoot"] = False
    with pytest.raises(jsonschema.ValidationError, match="runAsRoot"):
        jsonschema.Draft202012Validator(kuberay_schemas["RayJob"]).validate(content)


# What an operator relies on


def test_image_and_cluster_have_the_ray_that_is_installed_here() -> None:
    content = made(*SCORE)
    assert cluster_spec(content)["rayVersion"] == manifest.ray_version()
    assert {pod["containers"][0]["image"].split("-")[-2] for pod in pods(content)} == {f"ray{manifest.ray_version()}"}


def test_nothing_works_on_the_head(example: Any) -> None:
    assert cluster_spec(example)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_nobody_without_the_token_runs_code_on_the_cluster(example: Any) -> None:
    assert cluster_spec(example)["authOptions"] == {"mode": "token"}


def test_no_pod_is_root_or_has_rights(example: Any) -> None:
    for pod in pods(example):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_every_pod_asks_for_what_it_may_use_and_its_shared_memory_holds_the_object_store(example: Any) -> None:
    for pod in pods(example):
        resources = pod["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]
        assert {"cpu", "memory"} <= set(resources["limits"])
        shared = next(volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shared-memory")
        memory = int(resources["limits"]["memory"].removesuffix("Gi")) * 1024
        assert shared["medium"] == "Memory"
        # Ray takes 30 % of the memory, but never more than 95 % of /dev/shm; all of it must stay well under the limit.
        assert 0.3 * memory <= 0.95 * int(shared["sizeLimit"].removesuffix("Mi")) <= 0.4 * memory


def test_gpus_are_limited_and_their_taint_tolerated(example: Any) -> None:
    for group in cluster_spec(example)["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        gpus = pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
        tolerated = {toleration["key"] for toleration in pod.get("tolerations", [])}
        assert (gpus is not None) == ("nvidia.com/gpu" in tolerated) == (group["groupName"] == "gpu")


def test_workers_go_to_spot_nodes_and_the_head_stays_away() -> None:
    head, *workers = pods(made(*SCORE, "--spot", "cloud.google.com/gke-spot=true", "--gpu-workers", "1", "1"))
    assert len(workers) == 2
    for worker in workers:
        assert worker["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
        assert any(toleration["key"] == "cloud.google.com/gke-spot" for toleration in worker["tolerations"])
    assert "nodeSelector" not in head
    assert '"operator": "NotIn", "values": ["true"]' in json.dumps(head["affinity"])


def test_a_job_takes_its_cluster_down_and_ends_one_day(example: Any) -> None:
    if example["kind"] == "RayCluster":
        assert cluster_spec(example)["autoscalerOptions"]["idleTimeoutSeconds"] == 300
        return
    spec = job_spec(example)
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] <= 600
    assert 0 < spec["activeDeadlineSeconds"] <= 12 * 3600
    assert spec["backoffLimit"] == 2


def test_workers_come_and_go_only_where_their_number_may_change() -> None:
    assert cluster_spec(made(*SCORE, "--cpu-workers", "0", "3"))["enableInTreeAutoscaling"] is True
    assert "enableInTreeAutoscaling" not in cluster_spec(made(*SCORE, "--cpu-workers", "3", "3"))


def test_secrets_are_named_and_their_values_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    text = manifest.manifest([*SCORE, "--secrets", "object-store"], JOBS)
    assert "planted-secret" not in text
    for pod in pods(yaml.safe_load(text)):
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "object-store"}}]


@pytest.mark.parametrize(
    "words",
    [
        ["--storage-options", "secret=planted"],
        ["--model", "https://me:planted@host/model"],
        ["--input", "https://host/a.zip?X-Amz-Signature=planted"],
        ["--secrets", "AWS_SECRET_ACCESS_KEY=planted"],
    ],
)
def test_a_credential_on_the_command_line_is_refused_and_not_repeated(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused([*SCORE, *words]) == 2
    said = "".join(capsys.readouterr())
    assert "planted" not in said


def test_a_credential_in_a_settings_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "night.yaml").write_text("storage_options: {token: planted}")
    assert refused([*SCORE, "--config", str(tmp_path / "night.yaml")]) == 2
    assert "planted" not in "".join(capsys.readouterr())


# The command inside


def words_of(entrypoint: str) -> list[str]:
    """The command of an entrypoint, without what follows it."""
    command, _, _ = entrypoint.partition("\ncode=")
    return shlex.split(command.replace("\\\n", ""))  # which a shell takes away and shlex does not


def test_the_command_inside_scores_what_it_should(
    model: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "it's $HOME, odd"
    odd.symlink_to(phantoms)
    flags = ["--model", str(model), "--input", str(odd), "--output", str(tmp_path / "run"), "--dry-run"]
    content = made("score", *flags, "--volumes", f"models={model.parent}", f"images={tmp_path}")
    for pod in pods(content):
        assert {str(tmp_path), str(model.parent)} <= {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    program, *words = words_of(job_spec(content)["entrypoint"])
    assert program == "btc-ray"
    assert cli.main(words) == 0
    assert "60 images" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_the_command_inside_has_the_settings_that_were_given(tmp_path: Path) -> None:
    (tmp_path / "night.yaml").write_text("epochs: 3\nflips: false\n")
    flags = ["--data", "s3://b/data", "--output", "s3://b/new", "--champion", "s3://b/old", "--learning-rate", "0.01"]
    flags += ["--resolutions", "128", "224", "--ema", "0.9", "--config", str(tmp_path / "night.yaml")]
    program, job, *words = words_of(job_spec(made("retrain", *flags))["entrypoint"])
    assert (program, job) == ("btc-ray", "retrain")
    assert parse(Retrain, words, program="") == parse(Retrain, [*flags, "--address", "auto"], program="")
    assert parse(Retrain, words, program="").flips is False


@pytest.mark.parametrize(("job", "verdict"), [("score", 3), ("retrain", 5)])
@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5])
def test_a_verdict_is_no_failure_and_a_failure_keeps_its_code(job: str, verdict: int, code: int, tmp_path: Path) -> None:
    stub = tmp_path / "btc-ray"
    stub.write_text(f"#!/bin/sh\nexit {code}\n")
    stub.chmod(0o755)
    kinds = {
        "score": Score(model="s3://m", input=("s3://i",), output="s3://o"),
        "retrain": Retrain(data="s3://d", output="s3://o"),
    }
    script = manifest.entrypoint(job, kinds[job], time_zone="Etc/UTC")
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = subprocess.run(script, shell=True, check=False, env=environment).returncode  # as Ray starts it
    assert ended == (0 if code == verdict else code)


def test_the_folder_of_a_night_is_the_same_after_midnight(tmp_path: Path) -> None:
    spec = job_spec(made(*SCORE, "--kind", "raycronjob", "--cron", "0 20 * * *", "--time-zone", "Asia/Tokyo"))
    line = next(line for line in spec["entrypoint"].splitlines() if "--output" in line)
    place = line.strip().removeprefix("--output ").removesuffix(" \\")
    folders = []
    for now in ("2026-03-01 20:00", "2026-03-02 00:30", "2026-03-02 11:59", "2026-03-02 20:00"):  # in Tokyo
        frozen = tmp_path / "date"
        frozen.write_text(f'#!/bin/sh\nexec /bin/date -d "TZ=\\"Asia/Tokyo\\" {now} 12 hours ago" +%F\n')
        frozen.chmod(0o755)
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        said = subprocess.run(["sh", "-c", f"echo {place}"], capture_output=True, text=True, check=True, env=environment)
        folders.append(said.stdout.strip())
    assert folders == ["s3://b/2026-03-01"] * 3 + ["s3://b/2026-03-02"]
    assert "TZ=Asia/Tokyo date -d '-12 hours' +%F" in place


# What is refused before it fails at night


def refused(arguments: list[str]) -> int:
    """The exit code of `btc-ray manifest`, however it ends."""
    try:
        return cli.main(["manifest", *arguments])
    except SystemExit as end:
        return int(str(end.code))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([*SCORE, "--batchsize", "4"], "batchsize"),
        ([*SCORE, "--max-bad-fraction", "2"], "between 0 and 1"),
        (["scoer", "--output", "s3://b/x"], "'scoer' is none of them"),
        (["info", "--path", "s3://b/x"], "'info' is none of them"),
        ([], "which job?"),
        ([*SCORE, "--kind", "raycluster"], "runs no job of its own"),
        ([*SCORE, "--address", "10.0.0.1:6379"], "leave --address out"),
        ([*SCORE, "--device", "cuda"], "--gpu-workers"),
        ([*SCORE, "--image", "registry/btc-ray:0.1.0-ray2.9.0"], "has Ray 2.9.0"),
        ([*SCORE, "--name", "n" * 48], "at most"),
        ([*SCORE, "--name", "Night_1"], "small letters"),
        ([*SCORE, "--kind", "raycronjob"], "go together"),
        ([*SCORE, "--kind", "raycronjob", "--cron", "nightly"], "five fields"),
        ([*SCORE[:-1], "s3://b/run", "--kind", "raycronjob", "--cron", "0 20 * * *"], "must hold {date}"),
        (["crop", "--input", "s3://b/i", "--output", "s3://b/o", "--retries", "1"], "--retries must be 0"),
        ([*SCORE, "--cpu-workers", "4", "2"], "fewest"),
        ([*SCORE, "--cpu-workers", "0", "0"], "both 0"),
        ([*SCORE, "--input", "/archive"], "/archive is a path of this machine"),
        ([*SCORE, "--input", "/data/../etc", "--volumes", "data=/data"], "is a path of this machine"),
        ([*SCORE, "--input", "/database", "--volumes", "data=/data"], "nothing is under /data"),
        ([*SCORE, "--volumes", "data=here"], "CLAIM=/PATH"),
    ],
)
def test_what_would_fail_at_night_is_refused_now(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(arguments) == 2
    said = capsys.readouterr()
    assert reason in " ".join((said.err + said.out).replace("│", " ").split())
    assert "Traceback" not in said.err


def test_the_longest_name_still_names_a_job_of_a_night() -> None:
    cron = ["--kind", "raycronjob", "--cron", "0 20 * * *", "--name"]
    assert made(*SCORE, *cron, "n" * 36)["metadata"]["name"] == "n" * 36
    assert refused([*SCORE, *cron, "n" * 37]) == 2


def test_no_flag_is_both_the_manifests_and_a_jobs() -> None:
    ours = {item.name for item in fields(KubernetesManifest)}
    assert not any(ours & {item.name for item in fields(settings)} for settings in JOBS.values())


def test_flags_may_stand_in_any_order() -> None:
    spread = ["score", "--name", "night", "--model", "s3://b/m", "--gpu-workers", "0", "1", "--input", "s3://b/i", "s3://b/j"]
    together = ["score", "--model", "s3://b/m", "--input", "s3://b/i", "s3://b/j", "--output", "s3://b/o", "--name=night"]
    assert made(*spread, "--output", "s3://b/o") == made(*together, "--gpu-workers", "0", "1")


def test_help_names_the_manifests_flags(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["score", "--help"]):
        with pytest.raises(SystemExit) as end:
            cli.main(["manifest", *words])
        assert end.value.code == 0
        assert "--gpu-workers" in capsys.readouterr().out
