"""Who made a bundle: signed with a key of the user's, and held against it before anything is read from it.

The signature is that of OpenSSF's Model Signing (https://github.com/sigstore/model-transparency) with an elliptic-curve key: no server is
asked. It covers the files that scoring reads, as they are: `model_signing verify key` reads it too.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from btc_ray.errors import UserError
from btc_ray.model.bundle.description import Bundle, BundleError
from btc_ray.model.bundle.files import REFERENCE, SIGNATURE, read_bundle, read_file
from btc_ray.model.int8.form import INT8
from btc_ray.storage import Place

SIGNED = ("bundle.json", "model.safetensors", REFERENCE, INT8)


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


def sign_bundle(place: Place, key: str) -> None:
    """Write `model.sig` beside the files it covers. `key`: a private key's file. Raises KeyFileError and BundleError."""
    check_key(key, private=True)
    from model_signing import signing

    with _copied(place) as folder, tempfile.TemporaryDirectory() as other:
        signature = Path(other) / SIGNATURE
        signing.Config().use_elliptic_key_signer(private_key=key).sign(folder, signature)
        (place / SIGNATURE).write(signature.read_bytes())


def read_signed_bundle(place: Place, key: str) -> Bundle:
    """`read_bundle` of a bundle whose files are, byte for byte, those that the owner of `key`, a public key's file, signed.

    The description comes from the bytes that were verified; workers hold what they open against it. Raises SignatureError,
    KeyFileError and BundleError.
    """
    check_key(key, private=False)
    from cryptography.exceptions import InvalidSignature
    from google.protobuf.json_format import ParseError
    from model_signing import verifying

    try:
        signature = read_file(place / SIGNATURE)
    except FileNotFoundError as error:
        raise SignatureError(f"{place} is not signed: it has no {SIGNATURE}. Train with --sign KEY.") from error
    with _copied(place) as folder, tempfile.TemporaryDirectory() as other:
        (Path(other) / SIGNATURE).write_bytes(signature)
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, Path(other) / SIGNATURE)
        except (InvalidSignature, ParseError, ValueError, KeyError, TypeError) as error:
            changed = str(error) if str(error).startswith("Signature mismatch") else "the signature is another key's, or damaged"
            raise SignatureError(f"{place} is not what the owner of {key} signed: {changed}.") from error
        return read_bundle(Place(str(folder)))


def read_trusted_bundle(place: Place, key: str | None) -> Bundle:
    """`read_signed_bundle` where a `key` is asked for, else `read_bundle`."""
    return read_bundle(place) if key is None else read_signed_bundle(place, key)


@contextmanager
def _copied(place: Place) -> Iterator[Path]:
    """What a signature covers, in a folder of this machine: the bundle may stand in an object store."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        folder.mkdir()
        for name in SIGNED:
            try:
                (folder / name).write_bytes(read_file(place / name))
            except FileNotFoundError:
                if name == "bundle.json":
                    raise BundleError(f"{place} is not a model bundle: it has no bundle.json.") from None
        yield folder
