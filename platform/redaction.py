"""What looks like a secret is not shown: in log lines, recorded errors, and pages. Pure; imports nothing of ours.

By name, in whatever has keys (:func:`redacted`), and by form, in texts (:func:`redact_text`). The second is a best
effort: it knows how secrets usually get into messages (``key=value``, quoted keys, headers, URLs, key files), and what
looks like nothing in particular gets past it. It is never a reason to log a secret.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"
DEEPEST = 32
#: Where a source's configuration says what is sent with each request.
SENT = ("headers", "params")

#: Parts of names that say "what stands here is secret".
_NAMES = (
    r"passw(?:or)?d|passwd|pass[_-]?phrase|secret|token|authori[sz]ation|api[_-]?key|access[_-]?key|private[_-]?key|"
    r"signing[_-]?key|encryption[_-]?key|cookie|credential|client[_-]?assertion|session[_-]?id"
)
_SECRET_NAME = re.compile(rf"(?:{_NAMES})|(?:^|[_\-.])(?:pwd|pass|pin|otp|jwt|auth)(?:$|[_\-.])", re.IGNORECASE)
#: ``token_id`` and ``password_changed_at`` are about a secret and not one.
_ABOUT = re.compile(
    r"(?:(?<!session)(?<!session[_-])[_-]?ids?|[_-]at|[_-]?(?:name|type|kind|count|length|limit|expiry|expires(?:[_-]in)?|url|uri))$",
    re.IGNORECASE,
)
#: Counted and not kept: ``tokens``, ``max_tokens``, ``total_tokens``.
_COUNTED = re.compile(r"tokens?$", re.IGNORECASE)

# No form has two repetitions that can share characters: whatever the text, a search is linear.
_QUOTED_NAME = rf"[\"'][\w.\-]{{0,40}}?(?:{_NAMES})[\w.\-]{{0,20}}[\"']"
_BARE_NAME = rf"(?<![\w.\-])[\w.\-]{{0,40}}?(?:{_NAMES}|(?<![a-z])(?:pwd|pass))[\w\-]{{0,20}}"
#: Name, what stands between, value.
_NAMED = (
    # "password": "…" as JSON or as Python writes it; a quoted value may hold escaped quotes.
    re.compile(
        rf"({_QUOTED_NAME})(\s{{0,5}}:\s{{0,5}}b?)"
        r"(?:\[redacted\]|\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|[^\s,}\]\"']{1,500})",
        re.IGNORECASE | re.DOTALL,
    ),
    # password=…, also in query strings and connection strings; api_key: …
    re.compile(
        rf"({_BARE_NAME})(\s{{0,3}}(?:=|:(?!//))\s{{0,3}})"
        r"(?:\[redacted\]|\"[^\"]*\"?|'[^']*'?|[^\s&;,\"'\])}]{1,2000})",
        re.IGNORECASE,
    ),
)
_FORMS = (
    # Key files, whole.
    (re.compile(r"-----BEGIN ([A-Z ]{0,30}PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL), REDACTED),
    # A header's value is all that follows, also when it has a scheme in front.
    (re.compile(r"(?i)\b((?:proxy-)?authorization[\"']?\s{0,5}[:=]\s{0,5}[\"']?)[^\r\n\"']{1,2000}"), rf"\1{REDACTED}"),
    (re.compile(r"(?i)\b((?:set-)?cookie[\"']?\s{0,5}:\s{0,5}[\"']?)[^\r\n\"']{1,4000}"), rf"\1{REDACTED}"),
    (re.compile(r"(?i)\b(bearer|basic)\s{1,5}[\w.~+/=\-]{6,}"), rf"\1 {REDACTED}"),
    # scheme://user:password@host
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.\-]{1,30}://)[^\s/\"'<>]{1,500}@"), rf"\1{REDACTED}@"),
    # The signature of an address: who has it needs no password.
    (re.compile(r"(?i)([?&](?:x-amz-)?sig(?:nature)?=)[^\s&\"'<>]{8,2000}"), rf"\1{REDACTED}"),
    # A JSON Web Token wherever it stands, and tokens of ours.
    (re.compile(r"\beyJ[\w\-]{8,}\.[\w\-]{8,}\.[\w\-]*"), REDACTED),
    (re.compile(r"\bjp_[0-9A-Za-z]{1,64}_[\w\-]{16,}"), REDACTED),
    # Links to exports, keys in hooks' addresses, tokens for one job, states of OAuth, sessions.
    (re.compile(r"\bjp[ehjos]_[\w\-]{16,}=*"), REDACTED),
    # A secret of Standard Webhooks.
    (re.compile(r"\bwhsec_[\w+/=\-]{16,}"), REDACTED),
)
#: Nearly every message has none of these and is not looked at more closely. Some twenty searches for plain words take a
#: microsecond, one for a pattern of them thirty.
_HINTS = (
    "pass", "pwd", "secret", "token", "authori", "api", "key", "cookie", "credential", "assertion", "session", "bearer",
    "basic", "://", "sig", "eyj", "jp_", "jpe_", "jph_", "jpj_", "jpo_", "jps_", "whsec_",
)  # fmt: skip


@functools.lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether what has this name is better not shown."""
    if not _SECRET_NAME.search(_words(name)):
        return False
    return not _ABOUT.search(_words(name))


def redacted(value: Any) -> Any:
    """``value`` with what has a secret's name replaced, at any depth, and its texts through :func:`redact_text`.

    A copy where something had to be replaced or could have been; what is not a mapping, a list, a tuple or a text
    comes back as it is.
    """
    return _redacted(value, DEEPEST)


def redact_configuration(value: Any) -> Any:
    """A source's configuration without secrets: those in what is sent with requests, by name, and in texts, by form.

    Elsewhere in it names are chosen by people, and a stream may well be called ``tokens``.
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, list):
        return [redact_configuration(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: redacted(item) if key in SENT and isinstance(item, Mapping) else redact_configuration(item)
        for key, item in value.items()
    }


def redact_field(name: str, value: Any) -> Any:
    """What may be shown as ``name``: the value, redacted as far as it has to be."""
    if not is_secret_name(name):
        return _redacted(value, DEEPEST)
    if value is None or isinstance(value, bool) or value in ("", b""):
        return value  # Whether there is one is no secret, and often the reason.
    if isinstance(value, int | float) and _COUNTED.search(name):
        return value
    return REDACTED


def redact_text(text: str) -> str:
    """``text`` without what looks like a secret in it."""
    folded = text.lower()
    if not any(hint in folded for hint in _HINTS):
        return text
    for form, replacement in _FORMS:
        text = form.sub(replacement, text)
    for form in _NAMED:
        text = form.sub(_without_value, text)
    return text


def _without_value(match: re.Match[str]) -> str:
    name, between = match[1], match[2]
    if not is_secret_name(name.strip("\"'")):
        return match[0]
    return f'{name}{between}"{REDACTED}"' if name[0] in "\"'" else f"{name}{between}{REDACTED}"


def _redacted(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    if depth == 0:
        return REDACTED
    if isinstance(value, Mapping):
        return {key: _redacted_item(key, item, depth) for key, item in value.items()}
    items = [_redacted(item, depth - 1) for item in value]
    return items if isinstance(value, list) else tuple(items)


def _redacted_item(key: Any, item: Any, depth: int) -> Any:
    name = key if isinstance(key, str) else key.decode(errors="replace") if isinstance(key, bytes) else str(key)
    if isinstance(item, Mapping | list | tuple) and not is_secret_name(name):
        return _redacted(item, depth - 1)
    return redact_field(name, item)


def _words(name: str) -> str:
    """``accessToken`` as ``access_Token``: where words meet inside a name, so that both spellings are one."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name) if not name.islower() else name
