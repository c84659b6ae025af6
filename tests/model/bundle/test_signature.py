"""A signed bundle is what its signer signed, byte for byte; anything else is refused before it is read."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from btc_ray.cli import main
from btc_ray.model.bundle import read_bundle, weights_id
from btc_ray.model.bundle.publish import publish
from btc_ray.model.bundle.signature import KeyFileError, SignatureError, read_signed_bundle, signature_of
from btc_ray.storage import Place

pytest.importorskip("model_signing")
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa


def pair(folder: Path, name: str, *, kind: str = "ec") -> tuple[str, str]:
    made = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    encoding = serialization.Encoding.PEM
    private.write_bytes(made.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(made.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo))
    return str(private), str(public)


@pytest.fixture
def signed(model: Path, tmp_path: Path) -> tuple[Path, str]:
    """A bundle with a signature, and the signer's public key."""
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    private, public = pair(tmp_path, "ours")
    (copy / "model.sig").write_bytes(signature_of({file.name: file.read_bytes() for file in copy.iterdir()}, private))
    return copy, public


def test_a_signed_bundle_is_read_as_it_is(signed: tuple[Path, str], model: Path) -> None:
    bundle, key = signed
    assert read_signed_bundle(Place(str(bundle)), key) == read_bundle(Place(str(model)))
    (bundle / "notes.txt").write_text("what scoring does not read may come and go")
    assert read_signed_bundle(Place(str(bundle)), key).model_id


def test_a_signed_bundle_that_another_replaces_stays_signed_for_who_opens_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one signed bundle to the next there is no moment without a signature, nor with that of the other."""
    private, public = pair(tmp_path, "ours")
    place, described = Place(str(tmp_path / "model")), read_bundle(Place(str(model)))
    contents = [b"weights 0", b"weights 1", b"weights 2"]
    bundles = [replace(described, model_id=weights_id(weights)) for weights in contents]
    publish(place, bundles[0], {"model.safetensors": contents[0]}, sign=private)
    real, seen = Place.write, []

    def write_and_look(self: Place, data: bytes) -> None:
        real(self, data)
        seen.append(read_signed_bundle(place, public).model_id)

    monkeypatch.setattr(Place, "write", write_and_look)
    for bundle, weights in zip(bundles[1:], contents[1:], strict=True):
        publish(place, bundle, {"model.safetensors": weights}, sign=private)
    order = [bundle.model_id for bundle in bundles]
    assert set(seen) == set(order)
    assert seen == sorted(seen, key=order.index)


def other_key(bundle: Path, tmp_path: Path) -> str:
    return pair(tmp_path, "theirs")[1]


def other_thresholds(bundle: Path, tmp_path: Path) -> None:
    text = (bundle / "bundle.json").read_text()
    (bundle / "bundle.json").write_text(text.replace('"temperature": 1.0', '"temperature": 1.5'))
    assert (bundle / "bundle.json").read_text() != text


def one_bit_of_the_weights(bundle: Path, tmp_path: Path) -> None:
    weights = bytearray((bundle / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (bundle / "model.safetensors").write_bytes(weights)


def a_file_that_nobody_signed(bundle: Path, tmp_path: Path) -> None:
    (bundle / "int8.safetensors").write_bytes(b"\0" * 100)


def half_a_signature(bundle: Path, tmp_path: Path) -> None:
    whole = (bundle / "model.sig").read_bytes()
    (bundle / "model.sig").write_bytes(whole[: len(whole) // 2])


def a_signature_of_nothing(bundle: Path, tmp_path: Path) -> None:
    (bundle / "model.sig").write_text("{}")


def no_signature(bundle: Path, tmp_path: Path) -> None:
    (bundle / "model.sig").unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_key, "another key's"),
        (other_thresholds, "bundle.json"),
        (one_bit_of_the_weights, "model.safetensors"),
        (a_file_that_nobody_signed, "int8.safetensors"),
        (half_a_signature, "damaged"),
        (a_signature_of_nothing, "damaged"),
        (no_signature, "not signed"),
    ],
)
def test_anything_else_is_refused(change: object, words: str, signed: tuple[Path, str], tmp_path: Path) -> None:
    bundle, key = signed
    key = change(bundle, tmp_path) or key  # type: ignore[operator]
    with pytest.raises(SignatureError, match=words):
        read_signed_bundle(Place(str(bundle)), key)


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("what", ["missing", "text", "rsa", "the other half"])
def test_a_key_that_cannot_be_used_is_told_with_its_flag(private: bool, what: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    key = {
        "missing": str(tmp_path / "nowhere.pem"),
        "text": str(tmp_path / "text"),
        "rsa": pair(tmp_path, "rsa", kind="rsa")[0 if private else 1],
        "the other half": pair(tmp_path, "ec")[1 if private else 0],
    }[what]
    with pytest.raises((KeyFileError, SignatureError), match="--sign" if private else "--require-signature"):
        signature_of({}, key) if private else read_signed_bundle(Place(str(model)), key)


def test_score_takes_a_signed_bundle_and_refuses_another_with_2(signed: tuple[Path, str], phantoms: Path, tmp_path: Path) -> None:
    bundle, key = signed
    flags = ["--input", str(phantoms / "Testing" / "glioma"), "--require-signature", key]
    assert main(["score", "--model", str(bundle), *flags, "--output", str(tmp_path / "run")]) == 0
    other_thresholds(bundle, tmp_path)
    for extra in ([], ["--dry-run"]):
        assert main(["score", "--model", str(bundle), *flags, "--output", str(tmp_path / "other"), *extra]) == 2
    assert not (tmp_path / "other").exists()


def test_the_tool_of_the_library_reads_the_signature(signed: tuple[Path, str]) -> None:
    bundle, key = signed
    command = [
        sys.executable,
        "-m",
        "model_signing",
        "verify",
        "key",
        "--signature",
        str(bundle / "model.sig"),
        "--public_key",
        key,
    ]
    assert subprocess.run([*command, "--ignore_unsigned_files", str(bundle)], check=False).returncode == 0
