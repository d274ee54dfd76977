"""Deliveries of ours, over real HTTP to a receiver on this machine (which only development's setting allows)."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from jobplatform.connectors import add_webhooks
from jobplatform.errors import InvalidPayloadError
from jobplatform.key_ring import KeyRing, generate_key
from jobplatform.models import Job, WebhookSubscription
from jobplatform.queue import (
    NewWebhook,
    RunningJob,
    Tasks,
    change_webhook,
    create_webhook,
    delivery_id,
    disable_webhook,
    enable_webhook,
    find_webhook,
    get_job,
    get_webhook,
    list_attempts,
    redeliver,
    rotate_webhook_secret,
    send_test,
    use_key_ring,
)
from jobplatform.testing import Clock, drain
from jobplatform.webhooks import verify


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent, and answers as the test says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/jobs"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((dict(self.headers), body))
        status, headers = self.server.answers.pop(0) if self.server.answers else (204, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def receiver_server() -> Iterator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join()


@pytest.fixture
def receiver(receiver_server: Receiver) -> Receiver:
    receiver_server.received.clear()
    receiver_server.answers.clear()
    return receiver_server


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES", "true")
    use_key_ring(KeyRing.parse(generate_key("a")))
    yield
    use_key_ring(None)


@pytest.fixture
def tasks() -> Tasks:
    tasks = Tasks()
    add_webhooks(tasks)

    @tasks.task("work")
    def work(job: RunningJob, payload: dict[str, Any]) -> None: ...

    return tasks


@pytest.fixture
def clock(engine: Engine) -> Iterator[Clock]:
    clock = Clock(engine)
    yield clock
    clock.reset()


class Webhook:
    """A webhook to the receiver, and its deliveries."""

    def __init__(self, engine: Engine, tasks: Tasks, workspace_id: uuid.UUID, url: str) -> None:
        self.engine, self.tasks, self.workspace_id = engine, tasks, workspace_id
        with Session(engine, expire_on_commit=False) as session, session.begin():
            self.made: NewWebhook = create_webhook(session, workspace_id=workspace_id, name="the CRM", url=url)

    def act(self, act: Callable[[Session, WebhookSubscription], Any]) -> Any:
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            found = find_webhook(session, self.workspace_id, self.made.webhook.id)
            assert found is not None
            return act(session, found)

    def send(self) -> uuid.UUID:
        job_id: uuid.UUID = self.act(send_test)
        return job_id

    def run(self, *, later: bool = False) -> None:
        drain(self.engine, self.tasks, workspace_id=self.workspace_id, with_scheduled=later, limit=1 if later else None)

    def look(self, job_id: uuid.UUID) -> Job:
        with Session(self.engine) as session:
            found = get_job(session, self.workspace_id, job_id)
            assert found is not None
            session.expunge(found)
            return found

    def now(self) -> WebhookSubscription:
        with Session(self.engine) as session:
            found = get_webhook(session, self.workspace_id, self.made.webhook.id)
            assert found is not None
            session.expunge(found)
            return found


@pytest.fixture
def webhook(engine: Engine, tasks: Tasks, workspace_id: uuid.UUID, receiver: Receiver) -> Webhook:
    return Webhook(engine, tasks, workspace_id, receiver.url)


def test_an_ending_arrives_signed_and_is_believed(
    webhook: Webhook, receiver: Receiver, engine: Engine, tasks: Tasks, workspace_id: uuid.UUID
) -> None:
    with Session(engine) as session, session.begin():
        job = tasks["work"].enqueue(session, {}, workspace_id=workspace_id)

    webhook.run()

    ((headers, body),) = receiver.received
    event = json.loads(body)
    assert verify(webhook.made.secret, headers, body).id == headers["webhook-id"]
    assert headers["Content-Type"] == "application/json"
    assert (event["type"], event["data"]["jobId"]) == ("job.completed", str(job.job_id))
    assert list(event) == ["type", "timestamp", "data"]


def test_what_is_no_event_is_refused_when_code_enqueues_it(
    engine: Engine, tasks: Tasks, workspace_id: uuid.UUID
) -> None:
    payload = {"webhookId": str(uuid.uuid4()), "event": {}}

    with Session(engine) as session, pytest.raises(InvalidPayloadError) as refused:
        tasks["jobplatform.webhook"].enqueue(session, payload, workspace_id=workspace_id)

    assert [problem.path for problem in refused.value.problems] == ["/event/type", "/event/timestamp", "/event/data"]


def test_every_try_is_the_same_delivery_signed_anew(webhook: Webhook, receiver: Receiver, clock: Clock) -> None:
    """And the tries are durable: each waits as long as Standard Webhooks says."""
    receiver.answers += [(500, {}), (503, {"Retry-After": "1000"}), (301, {"Location": "http://127.0.0.1:1/"})]
    clock.freeze()
    job_id = webhook.send()
    webhook.run()
    waits = []
    for _ in range(3):
        job = webhook.look(job_id)
        waits.append((job.run_after - clock.now()).total_seconds())
        assert webhook.now().failing_since is not None
        clock.travel_to(job.run_after)
        webhook.run()

    assert all(least <= wait <= least * 1.1 for least, wait in zip((5, 1000, 1800), waits, strict=True)), waits
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1
    assert len({body for _, body in receiver.received}) == 1
    assert len({headers["webhook-timestamp"] for headers, _ in receiver.received}) == 4
    for headers, body in receiver.received:
        verify(webhook.made.secret, headers, body, now=float(headers["webhook-timestamp"]))
    delivered = webhook.look(job_id)
    assert (delivered.status, delivered.result) == ("completed", {"status": 204})
    assert webhook.now().failing_since is None


def test_what_was_taken_and_what_was_not_sent_are_delivered_again_under_their_ids(
    webhook: Webhook, receiver: Receiver
) -> None:
    taken = webhook.send()
    webhook.run()
    lost = webhook.send()
    webhook.act(lambda session, one: disable_webhook(session, one, actor="ann"))
    webhook.run()
    webhook.act(enable_webhook)

    again = [webhook.act(lambda s, one, job=job: redeliver(s, one, webhook.look(job))) for job in (taken, lost)]
    webhook.run()

    ids = [headers["webhook-id"] for headers, _ in receiver.received]
    assert ids == [delivery_id(taken), delivery_id(taken), delivery_id(lost)]
    assert receiver.received[0][1] == receiver.received[1][1]
    third = webhook.act(lambda s, one: redeliver(s, one, webhook.look(again[0])))
    assert webhook.look(third).payload["deliveryId"] == delivery_id(taken)


def test_while_its_secret_is_replaced_both_sign(webhook: Webhook, receiver: Receiver) -> None:
    new = webhook.act(rotate_webhook_secret)
    webhook.send()
    webhook.run()

    ((headers, body),) = receiver.received
    assert len(headers["webhook-signature"].split()) == 2
    verify(webhook.made.secret, headers, body)
    verify(new, headers, body)


def test_a_receiver_that_is_gone_is_not_asked_again(webhook: Webhook, receiver: Receiver) -> None:
    receiver.answers.append((410, {}))
    first, second = webhook.send(), webhook.send()
    webhook.run()

    assert (webhook.look(first).status, webhook.look(first).attempts) == ("failed", 1)
    assert (webhook.look(second).status, webhook.look(second).outcome) == ("completed", "skipped")
    assert (webhook.now().disabled_by, webhook.now().disabled_why) == ("jobplatform", "gone")
    assert len(receiver.received) == 1


def test_what_waits_for_a_webhook_that_is_disabled_or_deleted_is_not_sent(webhook: Webhook, receiver: Receiver) -> None:
    waiting = [webhook.send(), webhook.send()]
    webhook.act(lambda session, found: disable_webhook(session, found, actor="ann"))
    webhook.run()
    webhook.act(enable_webhook)
    deleted = webhook.send()
    webhook.act(lambda session, found: session.delete(found))
    webhook.run()

    assert {webhook.look(job_id).outcome for job_id in [*waiting, deleted]} == {"skipped"}
    assert receiver.received == []


def test_an_address_that_may_not_be_asked_is_not(
    webhook: Webhook, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was allowed when it was made."""
    monkeypatch.delenv("JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES")
    plain, hidden = webhook.send(), webhook.look
    webhook.run()
    webhook.act(lambda session, found: change_webhook(session, found, url=receiver.url.replace("http://", "https://")))
    private = webhook.send()
    webhook.run()

    assert "without encryption" in str(hidden(plain).error)
    assert "is not a public address" in str(hidden(private).error)
    assert {hidden(plain).status, hidden(private).status} == {"failed"}
    assert receiver.received == []


def test_a_receiver_that_cannot_be_reached_is_tried_again(webhook: Webhook, receiver: Receiver) -> None:
    webhook.act(lambda session, found: change_webhook(session, found, url="http://127.0.0.1:1/"))
    job_id = webhook.send()
    webhook.run()

    job = webhook.look(job_id)
    assert (job.status, job.attempts) == ("pending", 1)
    assert "cannot be reached" in str(job.error)
    assert "whsec" not in str(job.error)


def test_the_path_of_a_webhook_s_url_is_not_shown_to_who_reads_its_jobs(webhook: Webhook, engine: Engine) -> None:
    url = "http://127.0.0.1:1/services/T0/path-canary?key=query-canary"
    webhook.act(lambda session, found: change_webhook(session, found, url=url))
    job_id = webhook.send()
    webhook.run()

    with Session(engine) as session:
        (attempt,) = list_attempts(session, webhook.workspace_id, job_id)
    assert str(webhook.look(job_id).error).startswith("http://127.0.0.1:1/ cannot be reached: ")
    assert "canary" not in f"{attempt.error} {attempt.traceback}"


def test_a_delivery_that_never_arrives_fails_after_ten_tries(webhook: Webhook, receiver: Receiver) -> None:
    receiver.answers += [(500, {})] * 20
    job_id = webhook.send()
    webhook.run()
    for _ in range(12):
        webhook.run(later=True)

    job = webhook.look(job_id)
    assert (job.status, job.attempts, len(receiver.received)) == ("failed", 10, 10)
