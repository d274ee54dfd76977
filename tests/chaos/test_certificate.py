"""What a certificate says of a promise, and what it must not say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from jobplatform.proof.certificate import Certificate, Verdict, certify
from jobplatform.proof.checker import Judgement, judge
from jobplatform.proof.clients import Promises
from jobplatform.proof.evidence import Evidence
from jobplatform.proof.experiment import Outcome
from jobplatform.proof.findings import RULES, Finding
from jobplatform.proof.markdown import as_markdown, verdict_in_words
from jobplatform.proof.monkey import RESTART
from jobplatform.proof.replay import Counts
from jobplatform.proof.setup import Setup
from jobplatform.proof.survey import Survey, what_is_missing
from jobplatform.proof.terrain import DEMANDED
from jobplatform.proof.watcher import Seen

NOTHING = Evidence(crash_limit=3, promises=Promises(), diary=[], seen=Seen(), demanded=DEMANDED)
IDLE = Outcome(NOTHING, Counter(), Counter(), 0, 0, 1.0, 1.0, {RESTART: "the server is not ours to restart"})
SERVER = Survey(
    login="shop",
    database="shop",
    may_create_databases=True,
    may_create_roles=True,
    existing=[],
    member_of=[],
    standby=False,
    may_create_schemas=True,
    version=17,
    max_connections=100,
    reserved=3,
    taken=12,
    allowed=None,
    objects=4,
    address="db:5432",
    encrypted=False,
)


def certificate_of(judgement: Judgement, outcome: Outcome = IDLE) -> Certificate:
    return certify(Setup(seed=1), outcome, judgement, server="here", settings={"fsync": "off"})


def test_a_run_in_which_nothing_happened_has_kept_no_promise() -> None:
    certificate = certificate_of(judge(NOTHING))

    assert certificate.verdict is Verdict.UNTESTED
    assert {promise.verdict for promise in certificate.promises} == {Verdict.UNTESTED}
    assert {promise.rule for promise in certificate.promises} == RULES.keys() - {"vacuous"}
    assert "NOT PROVEN: 0 of " in verdict_in_words(certificate)


def test_what_was_never_reached_is_said_of_the_promise_that_it_is_about() -> None:
    certificate = certificate_of(judge(NOTHING))

    missing = {promise.rule: len(promise.missing) for promise in certificate.promises if promise.missing}
    assert missing == {"limits": 5, "levels": 2, "rates": 2, "pauses": 4, "quotas": 2, "shed": 1}


def test_a_promise_that_was_broken_is_so_however_little_was_looked_at() -> None:
    broken = Finding("lost", "7", "was acknowledged and does not exist")

    certificate = certificate_of(Judgement([broken], Counts()))

    assert certificate.verdict is Verdict.VIOLATED
    assert [(v.rule, v.job_id) for v in certificate.violations] == [("lost", "7")]
    assert "- **lost**: job 7 was acknowledged and does not exist" in as_markdown(certificate)


def test_it_names_what_was_not_done_and_what_a_setting_puts_at_risk() -> None:
    text = as_markdown(certificate_of(judge(NOTHING)))

    assert "| restart server " in text
    assert "It was spared: restart server." in text
    assert "fsync is off: what was acknowledged may be lost with the machine." in text


def test_a_server_that_has_what_a_run_needs_is_missing_nothing() -> None:
    assert what_is_missing(SERVER, connections=80, in_database=False) == []


def test_each_thing_that_is_missing_says_what_to_do() -> None:
    poor = replace(SERVER, may_create_databases=False, may_create_roles=False, existing=["jobplatform_owner"], taken=40)

    missing = " / ".join(what_is_missing(poor, connections=80, in_database=False))

    for words in ("--database prove", "createrole, or let", "grant jobplatform_owner to", "fewer --workers"):
        assert words in missing


def test_a_login_may_have_fewer_connections_than_the_server() -> None:
    (only,) = what_is_missing(replace(SERVER, allowed=20), connections=76, in_database=False)

    assert "there is room for 20" in only


def test_a_database_with_something_in_it_is_not_one_to_be_emptied() -> None:
    (only,) = what_is_missing(SERVER, connections=10, in_database=True)

    assert "the database shop is not empty" in only
