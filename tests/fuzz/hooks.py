"""What schemathesis is told by code: the token it shows is not to be revoked on the way."""

from __future__ import annotations

import os

import schemathesis

OWN = os.environ["FUZZ_TOKEN"].split("_")[1]


@schemathesis.hook
def before_call(_context: object, case: schemathesis.Case, _kwargs: dict[str, object]) -> None:
    """Otherwise nothing but 401 would be seen of the API after that."""
    parameters = case.path_parameters or {}
    if parameters.get("tokenId") == OWN:
        parameters["tokenId"] = "0" * len(OWN)
    if str((case.query or {}).get("wait", "")).isdecimal():
        # Any number is as good as another, and nobody waits for it.
        case.query["wait"] = min(1, int(case.query["wait"]))
