"""What somebody typed into a search box, understood or explained."""

from __future__ import annotations

from jobplatform.errors import SearchError


def explained(error: SearchError) -> str:
    """What is wrong with it, named by the word that is."""
    return " ".join(_sentence(path, message) for path, message in error.problems)


def _sentence(path: str, message: str) -> str:
    word = path.removeprefix("/q").lstrip("/")
    said = f"{word} {message}" if word else message[:1].upper() + message[1:]
    return said if said.endswith((".", "?")) else said + "."
