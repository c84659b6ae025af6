"""Who made a bundle: signed with a key of the user's, and held against it before anything is read from it.

The signature is that of OpenSSF's Model Signing (https://github.com/sigstore/model-transparency) with an elliptic-curve key: no server is
asked. It covers the files that scoring reads, as they are: `model_signing verify key` reads it too.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import msgspec

from btc_ray.errors import UserError
from btc_ray.model.bundle.check import read_description
from btc_ray.model.bundle.description import Bundle, BundleError, version_id
from btc_ray.model.bundle.files import DESCRIPTION, REFERENCE, SIGNATURE, VERSIONS, WEIGHTS, read_bundle, read_file
from btc_ray.model.int8.form import INT8
from btc_ray.storage import Place

SIGNED = (DESCRIPTION, WEIGHTS, REFERENCE, INT8)


class SignatureError(BundleError):
    """A bundle that is not signed, or not by this key, or changed since."""


class KeyFileError(UserError):
    """A key that cannot be used, or no library to use it with."""


def check_key(key: str, *, private: bool) -> None:
    """That `key` is a PEM file of an elliptic-curve key of the right half. Raises KeyFileError."""
    flag = "--sign" if private else "--require-signature"
    if find_spec("model_signing") is None or find_spec("OpenSSL") is None:
        raise KeyFileError(f"{flag} needs OpenSSF's model-signing: pip install 'btc-ray[sign]'.")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    half = "private" if private else "public"
    try:
        text = Path(key).read_bytes()
        if private:
            found: object = serialization.load_pem_private_key(text, None)
        else:
            found = serialization.load_pem_public_key(text)
    except OSError as error:
        raise KeyFileError(f"{flag} {key} cannot be read: {error.strerror or error}.") from error
    except (TypeError, ValueError) as error:
        raise KeyFileError(f"{flag} {key} is not a {half} key in PEM without a password.") from error
    if not isinstance(found, ec.EllipticCurvePrivateKey if private else ec.EllipticCurvePublicKey):
        raise KeyFileError(
            f"{flag} {key} is not an elliptic-curve key. Make a pair: openssl ecparam -name prime256v1 -genkey -noout -out sign.pem; "
            "openssl ec -in sign.pem -pubout -out sign.pub"
        )


def signature_of(files: Mapping[str, bytes], key: str) -> bytes:
    """What stands in `model.sig` of a bundle with these files, by name. `key`: a private key's file. Raises KeyFileError."""
    check_key(key, private=True)
    from model_signing import signing

    with _folder_of({name: content for name, content in files.items() if name in SIGNED}) as folder, _file() as signature:
        signing.Config().use_elliptic_key_signer(private_key=key).sign(folder, signature)
        return signature.read_bytes()


def read_signed_bundle(place: Place, key: str) -> Bundle:
    """`read_bundle` of a bundle whose files are, byte for byte, those that the owner of `key`, a public key's file, signed.

    The description comes from the bytes that were verified; workers hold what they open against it. Raises SignatureError,
    KeyFileError and BundleError.
    """
    check_key(key, private=False)
    from cryptography.exceptions import InvalidSignature
    from google.protobuf.json_format import ParseError
    from model_signing import verifying

    files = _read(place)
    if SIGNATURE not in files:
        raise SignatureError(f"{place} is not signed: it has no {SIGNATURE}. Train with --sign KEY.")
    signature = files.pop(SIGNATURE)
    with _folder_of(files) as folder, _file() as signed:
        signed.write_bytes(signature)
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, signed)
        except (InvalidSignature, ParseError, ValueError, KeyError, TypeError) as error:
            changed = str(error) if str(error).startswith("Signature mismatch") else "the signature is another key's, or damaged"
            raise SignatureError(f"{place} is not what the owner of {key} signed: {changed}.") from error
        return read_bundle(Place(str(folder)))


def read_trusted_bundle(place: Place, key: str | None) -> Bundle:
    """`read_signed_bundle` where a `key` is asked for, else `read_bundle`."""
    return read_bundle(place) if key is None else read_signed_bundle(place, key)


def _read(place: Place) -> dict[str, bytes]:
    """What a signature covers and the signature, of one bundle, also where another takes its place meanwhile."""
    files = _read_from(place)
    if DESCRIPTION not in files:
        raise BundleError(f"{place} is not a model bundle: it has no bundle.json.")
    with suppress(msgspec.DecodeError, BundleError):  # the signature tells
        version = version_id(read_description(msgspec.json.decode(files[DESCRIPTION]), place / DESCRIPTION))
        if (place / VERSIONS / version / DESCRIPTION).exists():
            return _read_from(place / VERSIONS / version)
    return files


def _read_from(folder: Place) -> dict[str, bytes]:
    """The description before all others: what they are replaced by stands in `versions` before."""
    found = {}
    for name in (*SIGNED, SIGNATURE):
        with suppress(FileNotFoundError):
            found[name] = read_file(folder / name)
    return found


@contextmanager
def _folder_of(files: Mapping[str, bytes]) -> Iterator[Path]:
    """The files in a folder of this machine: the bundle may stand in an object store."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        yield folder


@contextmanager
def _file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / SIGNATURE
