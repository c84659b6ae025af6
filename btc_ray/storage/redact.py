"""Credentials out of words, once, where words leave the process: `redacted_streams` for what is printed, `redact_values` for records
and pages. A place names itself without them."""

import io
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from btc_ray.progress import printable

_SECRET_NAMES = (
    r"x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|signature|sig|token|access_?token|session_?token"
    r"|sas_?token|password|passwd|pwd|secret|secret_?key|aws_secret_access_key|aws_access_key_id|aws_session_token|awsaccesskeyid"
    r"|api_?key|account_?key|client_secret|connection_string|key"
)
# https://user:password@host and https://token@host, but not the container of abfs://container@account.
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^/\s?#'\"]*:[^/\s?#'\"]*@")
_HTTP_USER = re.compile(r"(?<=http://)[^/\s@?#'\"]+@|(?<=https://)[^/\s@?#'\"]+@")
_WEB_QUERY = re.compile(r"(?i)^(https?://[^?#]*)\?.*?(?=::|$)")
# name=value, as in a query, a connection string or KEY=VALUE.
_ASSIGNED = re.compile(rf"(?i)(?<![A-Za-z0-9_-])({_SECRET_NAMES})=(?!\*\*\*|VALUE\b)[^&;\s'\",)]+")
# Any name in the query of a URL that sounds like a credential: providers of stores and proxies have dozens of them.
_IN_QUERY = re.compile(
    r"(?i)([?&;][\w.%-]*(?:sig|token|key|secret|pass|pwd|auth|cred|sas|session|jwt|policy|hmac|ticket|otp|nonce|bearer|code)[\w.%-]*)"
    r"=(?!\*\*\*)[^&;\s'\",)#]+"
)
_URL = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+")
# 'name': 'value', as a dictionary prints itself.
_QUOTED = re.compile(rf"""(?i)(['"](?:{_SECRET_NAMES})['"]\s*:\s*)(['"]).*?\2""")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/-]{8,}=*")
_SECRET_OPTION = re.compile(rf"(?i)^(?:{_SECRET_NAMES})$")


def redact(text: str, options: Mapping[str, str] | None = None) -> str:
    """`text` without passwords in URIs, signatures and tokens in queries, secret options, and the secret values of
    `options`.
    """
    for name, value in (options or {}).items():
        # Short values ("a", "true") would blank innocent words.
        if _SECRET_OPTION.match(name.rsplit(".", 1)[-1]) and len(value) >= 6:
            text = text.replace(value, "***")
    text = _HTTP_USER.sub("***@", _USER_AND_PASSWORD.sub("***@", text))
    if "?" in text:
        text = _URL.sub(lambda url: _IN_QUERY.sub(r"\1=***", url.group()), text)
    text = _ASSIGNED.sub(r"\1=***", text)
    text = _QUOTED.sub(r"\1\2***\2", text)
    return _BEARER.sub(r"\1 ***", text)


def public_uri(uri: str) -> str:
    """A URI as tables show it: without user and password, and a web address without its query, where signatures and tokens stand. The
    name of a member (`…zip::b.jpg`) stays."""
    if "://" not in uri or not ("@" in uri or "?" in uri):
        return uri
    return _WEB_QUERY.sub(r"\1", _HTTP_USER.sub("", _USER_AND_PASSWORD.sub("", uri)))


def redact_values(value: Any, options: Mapping[str, str] | None = None) -> Any:
    """A record with every text in it redacted: dictionaries (their keys too), lists and tuples; pictures (`data:`) and all else stay."""
    match value:
        case str() if type(value) is str:  # not what is markup already
            return value if value.startswith("data:") else redact(value, options)
        case dict():
            return {redact_values(key, options): redact_values(item, options) for key, item in value.items()}
        case list() | tuple() if not hasattr(value, "_fields"):
            return type(value)(redact_values(item, options) for item in value)
        case _:
            return value


@contextmanager
def redacted_streams(options: Mapping[str, str] | None = None) -> Iterator[None]:
    """Whatever is printed while the block runs, tracebacks among it, has no credentials, and no character that the terminal lacks."""
    before = sys.stdout, sys.stderr
    # stderr also carries the progress bar, which moves the cursor: what is said there is made printable by `say`.
    sys.stdout, sys.stderr = _Redacted(before[0], options, made_printable=True), _Redacted(before[1], options)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, _Redacted):
                stream.flush()
        sys.stdout, sys.stderr = before


class _Redacted(io.TextIOBase):
    """A text stream that redacts what is written to it, and writes `?` for what its encoding does not have."""

    def __init__(self, stream: TextIO, options: Mapping[str, str] | None, *, made_printable: bool = False) -> None:
        self._stream, self._options, self._made_printable = stream, options, made_printable

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding or "utf-8"

    def write(self, text: str) -> int:
        written = redact(text, self._options)
        if self._made_printable:
            written = printable(written)
        self._stream.write(written.encode(self.encoding, "replace").decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return not self._stream.closed and self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True
