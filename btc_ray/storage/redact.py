"""Credentials out of messages: what this room says to a person or a log goes through `redact` first."""

import re
from collections.abc import Mapping

_SECRET_NAMES = (
    r"x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|signature|sig|token|access_?token|session_?token"
    r"|sas_?token|password|passwd|pwd|secret|secret_?key|aws_secret_access_key|aws_access_key_id|aws_session_token|awsaccesskeyid"
    r"|api_?key|account_?key|client_secret|connection_string|key"
)
# https://user:password@host and https://token@host, but not the container of abfs://container@account.
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^/\s?#'\"]*:[^/\s?#'\"]*@")
_HTTP_USER = re.compile(r"(?<=http://)[^/\s@?#'\"]+@|(?<=https://)[^/\s@?#'\"]+@")
# name=value, as in a query, a connection string or KEY=VALUE.
_ASSIGNED = re.compile(rf"(?i)(?<![A-Za-z0-9_-])({_SECRET_NAMES})=(?!\*\*\*)[^&;\s'\",)]+")
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
    text = _ASSIGNED.sub(r"\1=***", text)
    text = _QUOTED.sub(r"\1\2***\2", text)
    return _BEARER.sub(r"\1 ***", text)
