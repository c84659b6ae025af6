"""What is installed is locked with hashes: everything that pyproject.toml asks for, from no index in particular."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {
    "make.txt": ("cpu", "s3", "dev"),
    "image-cuda.txt": ("s3", "gcs", "azure", "sign", "cluster"),
    "image-cpu.txt": ("s3", "gcs", "azure", "sign", "cluster"),
}
OF_CUDA = re.compile(r"^(torch|torchvision|triton|(nvidia|cuda)-.*)$")


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by package."""
    found = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / "locks" / name).read_text().strip()):
        requirement, *hashes = (line.strip(" \\") for line in entry.splitlines())
        package, _, rest = requirement.partition("==")
        found[canonicalize_name(package)] = rest.partition(" ;")[0], hashes
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_with_the_hashes_of_its_files(name: str) -> None:
    for package, (version, hashes) in locked(name).items():
        assert version, package
        assert hashes, package
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in hashes), package


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_index(name: str) -> None:
    assert not re.search(r"://|--(extra-)?index|--find-links", (ROOT / "locks" / name).read_text())


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_what_the_package_asks_for(name: str) -> None:
    pins = locked(name)
    extras = [text for extra in LOCKS[name] for text in PROJECT["optional-dependencies"][extra]]
    for wanted in map(Requirement, [*PROJECT["dependencies"], *extras, "hatchling", "editables"]):
        package = canonicalize_name(wanted.name)
        if name == "image-cpu.txt" and OF_CUDA.match(package):
            assert package not in pins
        else:
            assert wanted.specifier.contains(pins[package][0]), wanted


def test_the_images_differ_in_torch_and_cuda_alone_and_have_the_versions_of_the_constraints() -> None:
    cuda, cpu = locked("image-cuda.txt"), locked("image-cpu.txt")
    assert {package: pin for package, pin in cuda.items() if not OF_CUDA.match(package)} == cpu
    lines = (ROOT / "cluster" / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}
    assert {package: cuda[package][0] for package in pinned if package in cuda} == {
        package: version for package, version in pinned.items() if package in cuda
    }
    text = (ROOT / "cluster" / "Dockerfile").read_text()
    assert {f"{package}=={cuda[package][0]}+cpu" for package in ("torch", "torchvision")} <= set(text.split())


def test_torch_has_files_of_more_than_this_platform() -> None:
    """Linux on two processors and macOS, for three Pythons at least."""
    assert len(locked("make.txt")["torch"][1]) >= 9
