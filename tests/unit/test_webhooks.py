"""How deliveries are signed and told apart: what providers publish is what is checked, and nothing else passes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.webhooks import (
    SCHEMES,
    DeliveryRefusedError,
    Incoming,
    answer_to_handshake,
    events_of,
    headers_to_keep,
    new_secret,
    require_subscription,
    sign,
    verify,
)
from tests import providers

NOW = 1_767_603_600.0
BODY = providers.as_json({"id": "evt_1", "event_id": "Ev08MFMKH6", "type": "invoice.paid"})
URL = "https://jobs.example.com/api/hooks/jph_x?a=b"
SECRET, OTHER = new_secret(), new_secret()

Signed = Callable[[str, bytes, float], dict[str, str]]
#: For each scheme: the headers that its provider sends for a secret, a body and a moment.
SIGNED: dict[str, Signed] = {
    "github": lambda secret, body, _at: providers.github(secret, body),
    "stripe": providers.stripe,
    "slack": providers.slack,
    "shopify": lambda secret, body, _at: providers.shopify(secret, body),
    "hubspot": lambda secret, body, at: providers.hubspot(secret, URL, body, at),
    "standard": providers.standard,
}
TIMED = [name for name in SIGNED if SCHEMES[name].has_timestamp]


def incoming(headers: dict[str, str], body: bytes = BODY, url: str = URL) -> Incoming:
    return Incoming("POST", url, {name.lower(): value for name, value in headers.items()}, body)


def check(scheme: str, request: Incoming, *secrets: str, now: float = NOW) -> None:
    SCHEMES[scheme].check(secrets or (SECRET,), request, now, 300)


def refused(scheme: str, request: Incoming, *secrets: str, now: float = NOW) -> str:
    with pytest.raises(DeliveryRefusedError) as caught:
        check(scheme, request, *secrets, now=now)
    return caught.value.reason


def test_every_scheme_that_signs_is_tested_here() -> None:
    assert set(SIGNED) == set(SCHEMES) - {"strava", "none"}


@pytest.mark.parametrize("scheme", SIGNED)
def test_what_a_provider_signed_is_believed(scheme: str) -> None:
    check(scheme, incoming(SIGNED[scheme](SECRET, BODY, NOW)))


@pytest.mark.parametrize("scheme", SIGNED)
def test_while_a_secret_is_replaced_either_is_believed(scheme: str) -> None:
    for secret in (SECRET, OTHER):
        check(scheme, incoming(SIGNED[scheme](secret, BODY, NOW)), OTHER, SECRET)


@pytest.mark.parametrize("scheme", ["stripe", "standard"])
def test_of_several_signatures_one_is_enough(scheme: str) -> None:
    headers = getattr(providers, scheme)([OTHER, SECRET], BODY, NOW)

    check(scheme, incoming(headers))


@pytest.mark.parametrize("scheme", SIGNED)
@pytest.mark.parametrize("change", ["another secret", "another body", "a letter of the signature", "no signature"])
def test_what_nobody_signed_is_refused(scheme: str, change: str) -> None:
    headers = SIGNED[scheme](OTHER if change == "another secret" else SECRET, BODY, NOW)
    name = next(name for name in headers if "signature" in name.lower() or "hmac" in name.lower())
    if change == "a letter of the signature":
        place = headers[name].rindex("v1") + 12 if "v1" in headers[name] else 12
        other = "0" if headers[name][place] != "0" else "1"
        headers[name] = headers[name][:place] + other + headers[name][place + 1 :]
    if change == "no signature":
        del headers[name]

    reason = refused(scheme, incoming(headers, BODY + b" " if change == "another body" else BODY))

    assert reason == ("unsigned" if change == "no signature" else "bad-signature")


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_a_delivery_that_is_too_old_or_too_new_is_refused(scheme: str, seconds: int) -> None:
    headers = SIGNED[scheme](SECRET, BODY, NOW)

    assert refused(scheme, incoming(headers), now=NOW + seconds) == "too-old"
    check(scheme, incoming(headers), now=NOW + 299)


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize("moment", ["", "soon", "-5", "1e9", "١٢٣", "9" * 400])
def test_a_moment_that_is_none_is_refused(scheme: str, moment: str) -> None:
    headers = SIGNED[scheme](SECRET, BODY, NOW)
    name = next((name for name in headers if "timestamp" in name.lower()), "Stripe-Signature")
    headers[name] = headers[name].replace(f"t={int(NOW)}", f"t={moment}") if scheme == "stripe" else moment

    assert refused(scheme, incoming(headers)) in ("unsigned", "too-old")


def test_what_the_moment_says_is_signed_too() -> None:
    """A recorded delivery is not made young by another header."""
    for scheme in TIMED:
        headers = SIGNED[scheme](SECRET, BODY, NOW - 1000)
        fresh = SIGNED[scheme](OTHER, BODY, NOW)
        for name in headers:
            if "timestamp" in name.lower():
                headers[name] = fresh[name]
        if scheme == "stripe":
            headers["Stripe-Signature"] = headers["Stripe-Signature"].replace(str(int(NOW - 1000)), str(int(NOW)))
        assert refused(scheme, incoming(headers)) == "bad-signature", scheme


def test_hubspot_signs_the_url_too_with_some_characters_written_plainly() -> None:
    plain = "https://jobs.example.com/hooks/x?next=https://a/b"
    headers = providers.hubspot(SECRET, plain, BODY, NOW)

    check("hubspot", incoming(headers, url="https://jobs.example.com/hooks/x?next=https%3A%2F%2Fa%2fb"))
    assert refused("hubspot", incoming(headers, url=plain.replace("jobs", "jab"))) == "bad-signature"


def test_the_signatures_are_those_that_the_providers_publish() -> None:
    signed = sign(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    check(
        "github",
        incoming({"X-Hub-Signature-256": f"sha256={digest}"}, b"Hello, World!"),
        "It's a Secret to Everybody",
    )


def test_what_we_sign_we_believe_and_so_does_somebody_else() -> None:
    headers = sign([SECRET, OTHER], "msg_1", int(NOW), BODY)

    assert verify(SECRET, headers, BODY, now=NOW) == ("msg_1", int(NOW))
    assert verify([OTHER], {name.upper(): value for name, value in headers.items()}, BODY, now=NOW).id == "msg_1"
    theirs = providers.standard([SECRET, OTHER], BODY, NOW, delivery="msg_1")["Webhook-Signature"]
    assert headers["webhook-signature"].split() == theirs.split()[1:]


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_zu kurz", "whsec_" + base64.b64encode(b"x" * 23).decode()])
def test_a_secret_that_is_none_is_told_without_being_repeated(secret: str) -> None:
    with pytest.raises(ValueError) as caught:
        verify(secret, sign([SECRET], "a", int(NOW), b""), b"", now=NOW)

    assert "whsec_ and" in str(caught.value)
    assert not secret.removeprefix("whsec_") or secret.removeprefix("whsec_") not in str(caught.value)


@given(st.dictionaries(st.text(max_size=30), st.text(max_size=60)), st.binary(max_size=100))
def test_whatever_is_sent_is_refused_and_never_an_error(headers: dict[str, str], body: bytes) -> None:
    for scheme in SIGNED:
        request = Incoming("POST", URL, {name.lower(): value for name, value in headers.items()}, body)
        with pytest.raises(DeliveryRefusedError):
            check(scheme, request)


@given(st.text(max_size=80))
def test_whatever_stands_in_the_headers_of_a_scheme_is_refused(text: str) -> None:
    for scheme, signed in SIGNED.items():
        headers = dict.fromkeys(signed(SECRET, BODY, NOW), text)
        with pytest.raises(DeliveryRefusedError):
            check(scheme, incoming(headers))


# -- Strava ------------------------------------------------------------------------------------------


def test_the_challenge_is_for_who_knows_the_token() -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": "right", "hub.challenge": "15f7d1a91c1f40f8a748fd134752feb3"}

    assert answer_to_handshake(["old", "right"], query) == query["hub.challenge"]
    for wrong in ({"hub.verify_token": "wrong"}, {"hub.verify_token": ""}, {"hub.mode": "x"}, {"hub.challenge": ""}):
        with pytest.raises(DeliveryRefusedError):
            answer_to_handshake(["right"], query | wrong)


@pytest.mark.parametrize("sent", [{"subscription_id": 7}, {"subscription_id": True}, {}, [], "120475", None])
def test_another_subscription_is_refused(sent: Any) -> None:
    require_subscription("120475", providers.strava_event())
    with pytest.raises(DeliveryRefusedError) as caught:
        require_subscription("120475", sent)

    assert caught.value.reason == "wrong-subscription"


# -- which is which ----------------------------------------------------------------------------------


def ids(scheme: str, body: Any, headers: dict[str, str] | None = None, **options: Any) -> list[str]:
    request = incoming(headers or {}, providers.as_json(body))
    return [event.id for event in events_of(SCHEMES[scheme], request, body, **options)]


@pytest.mark.parametrize(
    ("scheme", "body", "headers", "expected"),
    [
        ("github", {}, {"X-GitHub-Delivery": "72d3162e"}, "72d3162e"),
        ("shopify", {}, {"X-Shopify-Webhook-Id": "b54557e4"}, "b54557e4"),
        ("stripe", {"id": "evt_1"}, {}, "evt_1"),
        ("slack", {"event_id": "Ev08"}, {}, "Ev08"),
        ("standard", {}, {"webhook-id": "msg_1"}, "msg_1"),
        ("strava", providers.strava_event(), {}, "activity:1360128428:create:1516126040"),
        ("none", {}, {"Idempotency-Key": "7"}, "7"),
    ],
)
def test_a_delivery_is_told_by_what_its_provider_tells_it_by(
    scheme: str, body: Any, headers: dict[str, str], expected: str
) -> None:
    assert ids(scheme, body, headers) == [expected]


def test_without_an_id_a_signed_delivery_is_told_by_its_body_and_another_is_always_new() -> None:
    for scheme in ("github", "shopify", "stripe", "slack", "strava"):
        assert ids(scheme, {"a": 1}) == ids(scheme, {"a": 1}) != ids(scheme, {"a": 2}), scheme
    assert ids("none", {"a": 1}) != ids("none", {"a": 1})


def test_two_changes_of_a_second_are_two_and_a_repeat_is_none() -> None:
    renamed = providers.strava_event(aspect_type="update", updates={"title": "Lunch"})
    moved = providers.strava_event(aspect_type="update", updates={"type": "Ride"})

    assert ids("strava", renamed) == ids("strava", dict(renamed)) != ids("strava", moved)


def test_hubspot_s_events_are_taken_apart_and_a_repeat_is_known_by_them() -> None:
    """Its event ids may repeat, and a repeated delivery counts its tries."""
    first, second = providers.hubspot_event(), providers.hubspot_event(objectId=7)
    again = [{**event, "attemptNumber": 1} for event in (second, first)]

    assert len(set(ids("hubspot", [first, second, dict(first)]))) == 2
    assert sorted(ids("hubspot", again)) == sorted(ids("hubspot", [first, second]))
    assert ids("hubspot", again, split=False) == ids("hubspot", [first, second], split=False)
    assert ids("hubspot", []) == ids("hubspot", [], split=False) == []
    (whole,) = events_of(SCHEMES["hubspot"], incoming({}), [first, second], split=False)
    assert whole.value == [first, second]


@given(st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers()), st.dictionaries(st.text(), st.text())))
def test_whatever_is_delivered_has_an_id_that_can_be_a_key(body: Any) -> None:
    headers = {"X-GitHub-Delivery": str(body), "webhook-id": "ü" * 300, "X-Shopify-Webhook-Id": "\x00"}
    for scheme in SCHEMES.values():
        for event in events_of(scheme, incoming(headers), body):
            assert 1 <= len(event.id) <= 200
            assert event.id.isascii()
            assert event.id.isprintable()


def test_what_could_be_a_secret_is_not_kept_of_the_headers() -> None:
    headers = {
        **providers.github(SECRET, BODY),
        "Authorization": "Basic c2VjcmV0",
        "Cookie": "a=b",
        "X-Forwarded-For": "192.0.2.1",
    }

    kept = headers_to_keep({name.lower(): value for name, value in headers.items()})

    assert set(kept) == {"content-type", "user-agent", "x-github-event", "x-github-delivery"}
