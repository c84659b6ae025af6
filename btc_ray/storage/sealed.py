"""Web addresses that carry credentials, as files may hold them: sealed with a key that the job's own inputs give and no file holds.

A run reads its images by its manifest, hours later and on other machines, so the manifest has to say where they are; and a signature
or a password in an address must stand in no file. Whoever gives the same inputs again, to continue a run, has the key; who finds the
run folder has not. AES-SIV (RFC 5297), whose text is the same for the same address, so that equal inputs give equal manifests.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping

from btc_ray.errors import UserError
from btc_ray.storage.redact import public_uri

KEY = "btc_ray.key"  # among the options of a place; no file system sees it. 32 bytes in hex
_SEALED = re.compile(r"^(?!file:)[A-Za-z][\w+.-]*://.*?\?btc-ray-sealed=([\w-]+={0,2})")  # a file here may be called so


class SealedError(UserError):
    """An address that cannot be had again: its credentials are kept nowhere."""

    def __init__(self) -> None:
        super().__init__(
            "its address had a signature or password, which a run does not keep; only the command that the run was begun with, with the "
            "same list, can read it"
        )


def seal(uri: str, options: Mapping[str, str] | None) -> str:
    """The address without its credentials, which follow it unreadably; as it is where it has none, or `options` have no KEY."""
    key = (options or {}).get(KEY)
    shown = public_uri(uri)
    if key is None or shown == uri or _is_sealed(uri, options):
        return uri
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    sealed = AESSIV(bytes.fromhex(key)).encrypt(uri.encode("utf-8", "surrogateescape"), None)
    return f"{shown}?btc-ray-sealed={urlsafe_b64encode(sealed).decode()}"


def _is_sealed(uri: str, options: Mapping[str, str] | None) -> bool:
    """Whether this key sealed it, and not whoever wrote the list."""
    try:
        return unseal(uri, options) != uri
    except SealedError:
        return False


def unseal(uri: str, options: Mapping[str, str] | None) -> str:
    """The address as it was given, with whatever follows the sealed one (a member, a frame). Raises SealedError without its key."""
    found = _SEALED.match(uri)
    if found is None:
        return uri
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    try:
        opened = AESSIV(bytes.fromhex((options or {})[KEY])).decrypt(urlsafe_b64decode(found[1]), None)
    except (KeyError, ValueError, InvalidTag) as error:
        raise SealedError from error
    return opened.decode("utf-8", "surrogateescape") + uri[found.end() :]
