"""Texts as they are kept for people: without secrets, and not too long."""

from __future__ import annotations

import pytest

from jobplatform.queue.shown import MARGIN, shown
from jobplatform.redaction import REDACTED

LIMIT = 3_000
KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(["MIIEowIBAAKCAQEA" * 4] * 50) + "\n-----END RSA PRIVATE KEY-----"
SECRETS = {
    "a word": ("password=", "hunter2hunter2"),
    "quoted": ("token: ", '"' + "swordfish " * 100 + '"'),
    "a key file": ("", KEY),
}


def test_a_short_text_is_shown_whole() -> None:
    assert shown("nul \0, password=hunter2", LIMIT) == f"nul �, password={REDACTED}"


def test_of_a_long_text_the_beginning_and_the_end_are_kept() -> None:
    text = "the beginning " + "x" * 1_000_000 + " the end"

    kept = shown(text, LIMIT)

    assert kept.startswith("the beginning x")
    assert kept.endswith("x the end")
    assert len(kept) <= LIMIT
    assert "characters left out" in kept


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", [LIMIT + MARGIN, -(LIMIT + MARGIN)])
def test_a_secret_that_lies_across_a_cut_is_not_shown_in_part(secret: str, around: int) -> None:
    name, value = SECRETS[secret]
    size = 100_000
    cut = around if around > 0 else size + around
    pieces = [value[start : start + 12] for start in range(0, len(value) - 12, 12)]

    for before in range(0, len(name + value), max(1, len(value) // 20)):
        # What follows is redacted to next to nothing, so that everything beside the cut is nearer to the ends.
        filler = "api_key=" + "k" * 1_900 + " "
        head = (filler * 100)[: cut - before]
        text = head + name + value + (" " + filler * 100)
        kept = shown(text[:size], LIMIT)

        assert not any(piece in kept for piece in pieces)
