"""Credentials out of words, once, where words leave the process: `redact_values` for records and pages, `streams` for what is printed.
A place names itself without them."""

import re
from collections.abc import Mapping
from typing import Any

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
