"""The key ring wraps with its first key, unwraps with all of them, and never shows one."""

from __future__ import annotations

import base64
import os

import pytest

from jobplatform.errors import KeyMissingError, SettingsError
from jobplatform.key_ring import KeyRing, generate_key, ring_of
from jobplatform.settings import Settings

KEY, OTHER = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))


def test_the_first_key_wraps_and_every_key_unwraps() -> None:
    data_key = os.urandom(32)
    name, wrapped = KeyRing.parse(f"old:{KEY}").wrap(data_key, "here")

    rotated = KeyRing.parse(f"new:{OTHER}, old:{KEY}")

    assert (name, rotated.wrap(data_key, "here")[0]) == ("old", "new")
    assert rotated.unwrap("old", wrapped, "here") == data_key
    assert rotated.names == ("new", "old")


def test_a_wrapped_key_unwraps_in_its_own_place_only() -> None:
    ring = KeyRing.parse(f"a:{KEY}")
    _, wrapped = ring.wrap(os.urandom(32), "workspace one")

    with pytest.raises(KeyMissingError):
        ring.unwrap("a", wrapped, "workspace two")


def test_a_key_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyMissingError, match="no key 'b'") as missing:
        KeyRing.parse(f"a:{KEY}").unwrap("b", bytes(60), "here")

    assert missing.value.key_id == "b"


def test_another_key_under_the_same_id_counts_as_missing() -> None:
    _, wrapped = KeyRing.parse(f"a:{KEY}").wrap(os.urandom(32), "here")

    with pytest.raises(KeyMissingError, match="not the one"):
        KeyRing.parse(f"a:{OTHER}").unwrap("a", wrapped, "here")


@pytest.mark.parametrize("key", [KEY, base64.urlsafe_b64encode(b"\xff" * 32).decode()])
def test_both_alphabets_of_base64_are_understood(key: str) -> None:
    assert "a" in KeyRing.parse(f"a:{key}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (KEY, "key 1 must look like"),
        (f"a:{KEY},{OTHER}", "key 2 must look like"),
        (f"a:{KEY},", "key 2 must look like"),
        (f"bad id:{KEY}", "key 1 must look like"),
        (f"a:{KEY},b:{OTHER},a:{OTHER}", "key 3 has the id"),
        (f"a:{KEY[:-8]}", "key 1 has"),
        (f"a:{KEY[:-3]}", "key 1 is not base64"),
        (f"a:{KEY[:-4]}ä!!=", "key 1 is not base64"),
    ],
)
def test_what_is_wrong_with_a_ring_is_told_by_its_place_and_no_key_is_shown(text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as refused:
        Settings.from_env({"JOBPLATFORM_ENCRYPTION_KEYS": text})

    shown = str(refused.value) + repr(refused.value) + repr(refused.value.__cause__)
    assert not any(key[:12] in shown for key in (KEY, OTHER))


def test_no_key_is_shown_by_whatever_holds_a_ring() -> None:
    settings = Settings.from_env({"JOBPLATFORM_ENCRYPTION_KEYS": f"a:{KEY}"})

    assert repr(settings.encryption_keys) == "<KeyRing a>"
    assert KEY not in repr(settings) + str(settings.encryption_keys) + f"{settings}"


def test_no_ring_is_none() -> None:
    assert ring_of({}) is None
    assert Settings.from_env({"JOBPLATFORM_ENCRYPTION_KEYS": " "}).encryption_keys is None


def test_a_generated_key_can_be_used_and_is_new_each_time() -> None:
    first, second = generate_key("a"), generate_key("a")

    assert "a" in KeyRing.parse(first)
    assert first != second


def test_a_generated_key_has_an_id_that_a_ring_can_hold() -> None:
    with pytest.raises(ValueError, match="letters"):
        generate_key("a,b")


def test_without_the_package_a_ring_is_a_problem_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobplatform.key_ring.importlib.util.find_spec", lambda _name: None)

    with pytest.raises(SettingsError, match=r"pip install 'jobplatform\[encryption\]'"):
        Settings.from_env({"JOBPLATFORM_ENCRYPTION_KEYS": f"a:{KEY}"})
