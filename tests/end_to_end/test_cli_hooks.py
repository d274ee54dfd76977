"""``jobplatform hooks``: made, shown, rotated, disabled and deleted from a shell."""

from __future__ import annotations

import uuid

import pytest

from jobplatform.key_ring import generate_key
from tests.end_to_end.conftest import Cli, as_json

KEYS = {"JOBPLATFORM_ENCRYPTION_KEYS": generate_key("a")}


@pytest.fixture
def hooks(cli: Cli) -> Cli:
    def hooks(*arguments: str, typed: str | None = None, **variables: str):  # type: ignore[no-untyped-def]  # a Result
        return cli("hooks", *arguments, "-w", "Acme", typed=typed, **{**KEYS, **variables})

    return hooks


def test_a_hook_s_life_in_a_shell(hooks: Cli, cli: Cli, acme: uuid.UUID) -> None:
    options = ("--name", "pushes", "--scheme", "github", "--secret-stdin", "--url", "https://jobs.example.com/api")
    told = hooks("create", "sync", *options, typed="s3cret-canary\n").stdout
    hook_id = told.split()[0]
    assert f"{hook_id} pushes\nurl: https://jobs.example.com/api/hooks/jph_" in told
    assert "canary" not in told

    (listed,) = as_json(hooks("ls", "--json"))
    assert (listed["id"], listed["scheme"], listed["jobType"]) == (hook_id, "github", "sync")
    assert not {"secret", "keyHash", "previousSecret"} & set(listed)
    assert "takes deliveries" in hooks("ls").stdout

    assert hooks("disable", hook_id).stdout == "pushes is disabled\n"
    assert hooks("disable", hook_id).exit_code == 1
    assert hooks("enable", hook_id).stdout == "pushes is enabled\n"
    assert hooks("enable", hook_id).exit_code == 1
    secret = hooks("rotate-secret", hook_id, "--secret-stdin", "--keep-old", "1h", typed="another\n")
    assert secret.stdout == "pushes has another secret\n"
    assert as_json(hooks("rotate-key", hook_id, "--json"))["url"] not in told
    assert hooks("change", hook_id, "--name", "renamed", "--subscription", "7").stdout == "renamed is changed\n"
    shown = as_json(hooks("show", hook_id, "--json"))
    assert (shown["name"], shown["subscriptionId"], shown["deliveries"]) == ("renamed", "7", [])
    assert shown["rotatingUntil"] is not None
    assert "renamed" in hooks("show", hook_id).stdout
    assert hooks("delete", hook_id).stdout == "renamed is deleted\n"
    assert hooks("show", hook_id).exit_code == 1

    lines = as_json(cli("audit", "--json"))
    actions = {line["action"] for line in lines}
    assert actions == {f"hook.{deed}" for deed in (
        "create", "disable", "enable", "rotate_secret", "rotate_key", "change", "delete",
    )}  # fmt: skip
    assert "canary" not in str(lines)


def test_a_secret_of_standard_webhooks_is_shown_once(hooks: Cli, acme: uuid.UUID) -> None:
    made = hooks("create", "sync", "--name", "a", "--scheme", "standard").stdout

    assert "secret: whsec_" in made
    assert "whsec_" not in hooks("ls", "--json").stdout


def test_a_hook_s_url_begins_as_the_api_is_reached_and_of_a_path_it_is_said_what_is_missing(
    hooks: Cli, acme: uuid.UUID
) -> None:
    options = ("create", "sync", "--name", "a", "--scheme", "none")
    path, told = hooks(*options), hooks(*options, "--json")
    whole = hooks(*options, JOBPLATFORM_PUBLIC_URL="https://jobs.example.com/api")
    own = hooks(*options, "--url", "https://own.example.com", JOBPLATFORM_PUBLIC_URL="https://jobs.example.com/api")
    again = hooks("rotate-key", as_json(told)["id"], JOBPLATFORM_PUBLIC_URL="https://jobs.example.com/api")

    assert "url: /hooks/jph_" in path.stdout
    assert as_json(told)["url"].startswith("/hooks/jph_")
    assert "JOBPLATFORM_PUBLIC_URL, or --url" in path.stderr
    assert "JOBPLATFORM_PUBLIC_URL, or --url" in told.stderr
    assert "url: https://jobs.example.com/api/hooks/jph_" in whole.stdout
    assert "url: https://own.example.com/hooks/jph_" in own.stdout
    assert "url: https://jobs.example.com/api/hooks/jph_" in again.stdout
    assert whole.stderr == own.stderr == again.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("create sync --name a --scheme github", "secret is needed: the webhook's secret"),
        ("create sync --name a --scheme githob", "'githob' is not one of"),
        ("create synk --name a --scheme none", "no task is named 'synk'; did you mean 'sync'?"),
        ("create jobplatform.webhook --name a --scheme none", "no task is named 'jobplatform.webhook'"),
        (f"disable {uuid.UUID(int=7)}", "no hook has the id"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(hooks: Cli, acme: uuid.UUID, arguments: str, said: str) -> None:
    answer = hooks(*arguments.split())

    assert answer.exit_code in (1, 2)
    assert said in answer.stderr
