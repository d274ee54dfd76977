"""Whether something outside has failed is read off what was raised, whichever library raised it."""

from __future__ import annotations

import socket

import pytest

from jobplatform.queue.run.infrastructure import DEPTH, is_infrastructure


class LibraryError(Exception):
    """As of a library for HTTP: of no kind that we know, perhaps with the response it is about."""

    def __init__(self, status: int | None = None) -> None:
        if status is not None:
            self.response = type("Response", (), {"status_code": status})()


class SaidError(Exception):
    def __init__(self, infrastructure: bool) -> None:
        self.infrastructure = infrastructure


def raised_from(error: BaseException, cause: BaseException | None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:  # noqa: BLE001 - it is what was just raised
        return caught


def raised_while_handling(error: BaseException, context: BaseException, *, silently: bool = False) -> BaseException:
    try:
        try:
            raise context
        except BaseException:  # noqa: BLE001 - it is what was just raised
            if silently:
                raise error from None
            raise error  # noqa: B904 - this is what `requests` does
    except BaseException as caught:  # noqa: BLE001 - it is what was just raised
        return caught


REFUSED = ConnectionRefusedError("nobody there")

OUTSIDE = {
    "refused": REFUSED,
    "reset": ConnectionResetError(),
    "too slow": TimeoutError(),
    "no such name": socket.gaierror(-2, "unknown"),
    "as httpx raises it": raised_from(LibraryError(), raised_from(LibraryError(), REFUSED)),
    "as requests raises it": raised_while_handling(LibraryError(), raised_from(LibraryError(), REFUSED)),
    "as httpcore hides it": raised_from(LibraryError(), raised_while_handling(LibraryError(), REFUSED, silently=True)),
    "each address refused": raised_from(LibraryError(), ExceptionGroup("all", [REFUSED, TimeoutError()])),
    "a gateway": LibraryError(502),
    "out of service": LibraryError(503),
    "a gateway that waited": LibraryError(504),
    "it says so": SaidError(infrastructure=True),
    "raised from one that says so": raised_from(ValueError(), SaidError(infrastructure=True)),
}
OWN = {
    "a mistake": ValueError("no"),
    "a file": FileNotFoundError("no"),
    "not found": LibraryError(404),
    "too often": LibraryError(429),
    "an error of the service": LibraryError(500),
    "it says not": SaidError(infrastructure=False),
    "it says not, whatever it was raised from": raised_from(SaidError(infrastructure=False), REFUSED),
    "a group of something else": ExceptionGroup("some", [REFUSED, ValueError()]),
    "raised from nothing": raised_while_handling(ValueError(), REFUSED, silently=True),
}


@pytest.mark.parametrize("error", OUTSIDE.values(), ids=OUTSIDE)
def test_what_the_outside_did_is_infrastructure(error: BaseException) -> None:
    assert is_infrastructure(error)


@pytest.mark.parametrize("error", OWN.values(), ids=OWN)
def test_an_answer_and_a_mistake_of_ones_own_are_not(error: BaseException) -> None:
    assert not is_infrastructure(error)


def test_a_chain_without_an_end_is_looked_at_for_a_while() -> None:
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one

    assert not is_infrastructure(one)


def test_groups_in_groups_are_looked_into_for_a_while() -> None:
    error: Exception = REFUSED
    for _ in range(DEPTH):
        error = ExceptionGroup("several addresses", [error, error])

    assert is_infrastructure(ExceptionGroup("several addresses", [REFUSED, REFUSED]))
    assert not is_infrastructure(error)


def test_what_is_too_far_down_does_not_count() -> None:
    error: BaseException = REFUSED
    for _ in range(DEPTH):
        error = raised_from(ValueError(), error)

    assert not is_infrastructure(error)
