"""The files of cluster/ are what `btc-ray manifest` writes, what Ray takes, and agree with each other about versions."""

import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from btc_ray import cli
from btc_ray.deploy import manifest

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
WRITTEN = ("score-overnight", "retrain-gpu", "interactive")
JOBS = {name: cli.COMMANDS[name].settings for name in cli.CLUSTER_JOBS}


def pinned() -> dict[str, str]:
    lines = (CLUSTER / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_of_cluster_is_what_the_command_at_its_head_writes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "ray_version", lambda: pinned()["ray"])  # the image's, whichever 2.60 is installed here
    text = (CLUSTER / f"{name}.yaml").read_text()
    head = text[: text.index("# Research use only")]
    program, command, *arguments = shlex.split(" ".join(line.strip("# \\") for line in head.splitlines()))
    assert (program, command) == ("btc-ray", "manifest")
    assert manifest.manifest(arguments, JOBS) == text


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_ray_up_takes_its_files(cloud: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((CLUSTER / f"ray-up-{cloud}.yaml").read_text()))
    validate_config(config)
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert head["resources"]["CPU"] == 0
    assert "--num-cpus=0" in " ".join(config["head_start_ray_commands"])
    assert config["idle_timeout_minutes"] <= 5
    spot = {"aws": "InstanceMarketOptions", "gcp": "scheduling"}[cloud]
    assert spot not in head["node_config"]
    for worker in types.values():
        assert worker["min_workers"] == 0
        assert spot in worker["node_config"]


def test_the_image_has_the_ray_that_the_files_of_cluster_name() -> None:
    names = [*(f"{name}.yaml" for name in WRITTEN), "ray-up-aws.yaml", "ray-up-gcp.yaml", "Dockerfile", "README.md"]
    for name in names:
        assert f"-ray{pinned()['ray']}-" in (CLUSTER / name).read_text(), name


def test_the_image_is_not_root_and_its_user_is_the_pods() -> None:
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    assert "USER 1000:1000" in lines
    assert any("useradd --uid 1000" in line for line in lines)
    assert any(line.startswith("ARG BASE=python:3.11.") for line in lines)


def test_every_dependency_is_pinned_for_the_image() -> None:
    project = tomllib.loads((CLUSTER.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in (*project["dependencies"], *extras["s3"], *extras["gcs"], *extras["azure"], *extras["sign"]):
        wanted = Requirement(text)
        assert wanted.specifier.contains(pinned()[canonicalize_name(wanted.name)]), text
