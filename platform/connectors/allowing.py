"""Whether private addresses may be asked, where a caller leaves that to the settings."""

from __future__ import annotations

from jobplatform.settings import Settings


def allows_private(said: bool | None) -> bool:
    """What the caller says; for one that says nothing, ``JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES``."""
    return Settings.from_env().allow_private_addresses if said is None else said
