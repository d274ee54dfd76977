"""``jobplatform webhooks``: made, tested, shown, rotated, disabled and deleted from a shell."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy.orm import Session

from jobplatform.key_ring import generate_key
from jobplatform.queue import Completion, WorkerInfo, claim_job, complete_jobs, register_worker
from tests.end_to_end.conftest import Cli, as_json

KEYS = {"JOBPLATFORM_ENCRYPTION_KEYS": generate_key("a")}
URL = "https://crm.example.com/hooks"


@pytest.fixture
def webhooks(cli: Cli) -> Cli:
    def webhooks(*arguments: str, typed: str | None = None, **variables: str):  # type: ignore[no-untyped-def]  # a Result
        return cli("webhooks", *arguments, "-w", "Acme", typed=typed, **{**KEYS, **variables})

    return webhooks


def test_a_webhook_s_life_in_a_shell(webhooks: Cli, cli: Cli, acme: uuid.UUID) -> None:
    made = webhooks("create", "--name", "the CRM", "--url", URL, "--event", "job.failed", "--task", "sync").stdout
    webhook_id = made.split()[0]
    assert f"{webhook_id} the CRM\nsecret: whsec_" in made

    (listed,) = as_json(webhooks("ls", "--json"))
    assert (listed["id"], listed["events"], listed["jobTypes"]) == (webhook_id, ["job.failed"], ["sync"])
    assert not {"secret", "previousSecret"} & set(listed)
    assert "is told" in webhooks("ls").stdout

    job_id = webhooks("test", webhook_id).stdout.split()[0]
    (delivery,) = as_json(webhooks("show", webhook_id, "--json"))["deliveries"]
    assert (delivery["jobId"], delivery["type"], delivery["status"]) == (job_id, "webhook.test", "pending")
    assert "webhook.test" in webhooks("show", webhook_id).stdout
    assert "another secret: whsec_" in webhooks("rotate-secret", webhook_id, "--keep-old", "1h").stdout
    assert webhooks("change", webhook_id, "--name", "renamed", "--event", "job.cancelled").exit_code == 0
    assert webhooks("disable", webhook_id).stdout == "renamed is disabled\n"
    assert webhooks("disable", webhook_id).exit_code == 1
    assert "disabled (by hand)" in webhooks("ls").stdout
    assert (
        "the webhook 'renamed' is disabled, and would be sent nothing; enable it first"
        in webhooks("test", webhook_id).stderr
    )
    assert webhooks("enable", webhook_id).stdout == "renamed is enabled\n"
    assert webhooks("enable", webhook_id).exit_code == 1
    assert webhooks("delete", webhook_id).stdout == "renamed is deleted\n"
    assert webhooks("show", webhook_id).exit_code == 1

    lines = as_json(cli("audit", "--json"))
    assert {line["action"] for line in lines} == {f"webhook.{deed}" for deed in (
        "create", "test", "rotate_secret", "change", "disable", "enable", "delete",
    )}  # fmt: skip
    assert "whsec_" not in str(lines)


def test_a_delivery_that_was_not_sent_is_not_shown_as_one_that_was(
    webhooks: Cli, session: Session, acme: uuid.UUID
) -> None:
    made = webhooks("create", "--name", "the CRM", "--url", URL, "--task", "snyc").stdout.split()[0]
    worker = register_worker(session, WorkerInfo("one", "localhost", 1, "test", (), ("jobplatform.webhook",), 1))
    session.commit()
    for result, outcome in (('{"status": 204}', "ok"), ('{"reason": "the webhook is disabled"}', "skipped")):
        job_id = uuid.UUID(webhooks("test", made).stdout.split()[0])
        claimed = claim_job(session, worker_id=worker, workspace_id=acme, job_id=job_id)
        assert claimed is not None
        complete_jobs(session, [Completion(claimed.lease, result, outcome)])
        session.commit()

    shown = webhooks("show", made)
    again = webhooks("redeliver", made, str(job_id))

    *_, skipped, sent = shown.stdout.splitlines()
    assert skipped.split()[2] == "skipped"
    assert skipped.rstrip().endswith("the webhook is disabled")
    assert (sent.split()[2], sent.split()[-1]) == ("completed", "204")
    assert "no live worker knows the task snyc" in shown.stdout
    waits = webhooks("redeliver", made, again.stdout.split()[0])
    assert "is pending, and is still to be delivered" in waits.stderr
    assert "is no delivery to the CRM" in webhooks("redeliver", made, str(acme)).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (f"create --name a --url {URL.replace('https', 'http')}", "would be asked without encryption"),
        (f"create --name a --url {URL} --event job.lost", "'job.lost' is not one of"),
        (f"test {uuid.UUID(int=7)}", "no webhook has the id"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(webhooks: Cli, acme: uuid.UUID, arguments: str, said: str) -> None:
    answer = webhooks(*arguments.split())

    assert answer.exit_code in (1, 2)
    assert said in answer.stderr
