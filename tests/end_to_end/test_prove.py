"""``jobplatform prove``: small storms through the command, on a server of its own and on one that was given."""

from __future__ import annotations

import datetime
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from jobplatform import migrations
from jobplatform.embedded import EmbeddedServer
from jobplatform.models import Role
from jobplatform.proof.experiment import Outcome
from jobplatform.proof.monkey import RESTART, WEIGHTS
from jobplatform.proof.occupy import occupy_database
from jobplatform.proof.onlooker import NAME
from jobplatform.proof.place import PREFIX, Place
from jobplatform.proof.setup import Setup
from jobplatform.proof.terrain import DEMANDED
from jobplatform.testing import Databases, descendants_of, is_dead, wait_until
from tests.chaos.mutants import a_stopped_worker_completes_late, prepare
from tests.chaos.stage import Stage
from tests.chaos.variants import broken
from tests.end_to_end.conftest import Cli, Running
from tests.pooler import Pooler, run_pooler

ROLES = (Role.OWNER, Role.OPERATOR, Role.WORKER, Role.HANDLER)

#: The others are reached mostly, which is not enough for a test. That somebody saw a quota full (`waiting`) is one of
#: these; that it refused is demanded here too.
DEMANDED_HERE = DEMANDED - {"task", "resource", "shed", "pace", "rate", "waiting"}


@pytest.fixture
def prover(
    server: EmbeddedServer, provide_login: Callable[..., str], jobplatform_databases: Databases
) -> Iterator[str]:
    """A login as a managed server would give us: it may create databases and is a member of our roles. No superuser."""
    name = f"prover_{uuid.uuid4().hex[:8]}"
    provide_login(*ROLES)
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        admin.execute(f"create role {name} login createdb in role {', '.join(ROLES)}")
        yield name
        admin.execute(f"drop role {name}")


@pytest.fixture
def databases_of(server: EmbeddedServer) -> Callable[[str], list[str]]:
    def databases_of(login: str) -> list[str]:
        with psycopg.connect(server.url("postgres")) as admin:
            statement = "select datname from pg_database where datdba = %s::regrole"
            return [name for (name,) in admin.execute(statement, [login])]

    return databases_of


def violations(certificate: dict[str, Any]) -> list[str]:
    return [f"{found['rule']}: {found['what']}" for found in certificate["violations"]]


# As long as it takes on a busy machine until each fault has hit somebody; half a minute on an idle one.
@pytest.mark.timeout(400)
def test_nothing_is_lost_or_done_twice_and_no_limit_exceeded_while_workers_backends_and_the_server_are_killed(
    run: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "certificate.json"

    answer = run("prove", "--minutes", "0.4", "--jobs", "800", "--workers", "2", "--seed", "7", "--output", str(file))

    certificate = json.loads(file.read_text())
    assert violations(certificate) == [], answer.stdout
    assert certificate["faults"].keys() == {*WEIGHTS, RESTART}
    assert {kind for kind in DEMANDED_HERE if not certificate["limitsReached"].get(kind)} == set()
    assert answer.exit_code == (0 if certificate["verdict"] == "held" else 1)
    assert all(promise["promise"] in answer.stdout for promise in certificate["promises"])


@pytest.mark.thorough
@pytest.mark.timeout(400)
def test_a_given_server_keeps_nothing_of_it_and_need_not_be_ours(
    run: Cli, server: EmbeddedServer, prover: str, empty_url: str, databases_of: Callable[[str], list[str]]
) -> None:
    name = make_url(empty_url).database
    with psycopg.connect(empty_url, autocommit=True) as admin:
        admin.execute(f"alter database {name} owner to {prover}")

    answer = run(
        *("prove", "--minutes", "0.1", "--jobs", "150", "--workers", "1", "--seed", "7", "--json", "--yes"),
        *("--database", name),
        DATABASE_URL=server.url("postgres", prover),
    )

    certificate = json.loads(answer.stdout)
    assert violations(certificate) == [], answer.stderr
    assert certificate["notInjected"] == {RESTART: "the server is not ours to restart"}
    assert certificate["faults"].keys() == set(WEIGHTS)
    assert prover in certificate["server"]
    with psycopg.connect(empty_url) as admin:
        assert (
            admin.execute("select to_regnamespace('jobplatform'), to_regnamespace('chaos')").fetchone() == (None,) * 2
        )
        # They had been there before.
        assert admin.execute("select count(*) from pg_roles where rolname = any(%s)", [list(ROLES)]).fetchone() == (4,)


def test_a_database_with_something_in_it_is_refused_and_left_as_it_is(run: Cli, direct_url: str) -> None:
    name = make_url(direct_url).database or ""

    answer = run("prove", "--yes", "--database", name, DATABASE_URL=direct_url)

    assert answer.exit_code == 2
    assert f"the database {name} is not empty" in answer.stderr
    with psycopg.connect(direct_url) as connection:
        assert connection.execute("select count(*) from jobplatform.job_records").fetchone() == (0,)


def test_a_second_run_in_one_database_is_refused_and_told_who_has_it(
    run: Cli, server: EmbeddedServer, empty_url: str
) -> None:
    """Neither has made anything yet, so both find the database empty."""
    name = make_url(empty_url).database or ""

    with occupy_database(empty_url), psycopg.connect(empty_url, autocommit=True) as admin:
        statement = "select pid, xact_start from pg_stat_activity where application_name = %s and datname = %s"
        ((pid, since),) = admin.execute(statement, [NAME, name]).fetchall()
        when = f"{since.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"

        answer = run("prove", "--yes", "--database", name, DATABASE_URL=server.url("postgres"))

        assert answer.exit_code == 2
        assert f"another run has the database {name}, and nothing was done to it: " in answer.stderr
        assert f"{NAME} from the server itself since {when} (login postgres, process {pid} of the" in answer.stderr
        assert admin.execute("select to_regnamespace('jobplatform')").fetchone() == (None,)


def test_whoever_is_refused_clears_nothing_away_of_the_first_run(
    run: Cli, server: EmbeddedServer, empty_url: str, start: Callable[..., Running]
) -> None:
    arguments = ("prove", "--yes", "--workers", "1", "--jobs", "200", "--database", make_url(empty_url).database or "")
    first = start(*arguments, DATABASE_URL=server.url("postgres"))
    first.wait_for_line("seed ")
    wait_until(lambda: descendants_of(first.process.pid), what="a worker to begin")

    second = run(*arguments, DATABASE_URL=server.url("postgres"))

    assert (second.exit_code, second.stdout) == (2, "")
    assert "another run has the database" in second.stderr
    with psycopg.connect(empty_url) as admin:
        there = "select to_regclass('jobplatform.job_records') is not null, to_regclass('chaos.changes') is not null"
        assert admin.execute(there).fetchone() == (True, True)
        admin.rollback()
        assert first.end() == 130, first.output
        assert admin.execute(there).fetchone() == (False, False)


def test_through_a_pooler_a_second_run_is_refused_as_well(
    run: Cli, server: EmbeddedServer, pooler: Pooler, empty_url: str
) -> None:
    arguments = ("prove", "--yes", "--database", make_url(empty_url).database or "")
    pooled = pooler.url(server.url("postgres"))

    with occupy_database(pooler.url(empty_url)):
        through = run(*arguments, DATABASE_URL=pooled)
        past = run(*arguments, DATABASE_URL=pooled, JOBPLATFORM_DIRECT_DATABASE_URL=server.url("postgres"))

    assert (through.exit_code, past.exit_code) == (2, 2)
    assert "another run has the database" in through.stderr
    assert "another run has the database" in past.stderr


@pytest.mark.thorough
@pytest.mark.timeout(400)
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("past_it", [True, False])
def test_a_storm_goes_through_a_pooler_in_transaction_mode(
    run: Cli,
    server: EmbeddedServer,
    pooler: Pooler,
    empty_url: str,
    *,
    given: bool,
    past_it: bool,
) -> None:
    answer = run(
        *("prove", "--minutes", "0.1", "--jobs", "150", "--workers", "1", "--seed", "7", "--json", "--yes"),
        *(("--database", make_url(empty_url).database or "") if given else ()),
        DATABASE_URL=pooler.url(server.url("postgres")),
        **({"JOBPLATFORM_DIRECT_DATABASE_URL": server.url("postgres")} if past_it else {}),
    )

    certificate = json.loads(answer.stdout)
    assert violations(certificate) == [], answer.stderr
    assert certificate["faults"].keys() == set(WEIGHTS)
    assert "through a pooler" in certificate["server"]
    assert "could not clean up" not in answer.stderr
    with psycopg.connect(empty_url) as admin:
        assert admin.execute("select to_regnamespace('jobplatform')").fetchone() == (None,)


def test_a_pooler_that_lets_nobody_into_what_was_made_is_said(
    run: Cli, server: EmbeddedServer, databases_of: Callable[[str], list[str]]
) -> None:
    with run_pooler(server, databases="postgres") as pooler:
        answer = run("prove", "--yes", DATABASE_URL=pooler.url(server.url("postgres")))

    assert answer.exit_code == 2
    assert "the pooler that DATABASE_URL names lets nobody into the database that was made for this" in answer.stderr
    made = answer.stderr.partition("no such database: ")[2].partition(")")[0]
    assert made.startswith(PREFIX)
    assert made not in databases_of("postgres")


def test_a_direct_address_is_no_better_where_no_pooler_stands_between(run: Cli, server: EmbeddedServer) -> None:
    nowhere = "postgresql://127.0.0.1:1/none"

    answer = run("prove", DATABASE_URL=server.url("postgres"), JOBPLATFORM_DIRECT_DATABASE_URL=nowhere)

    assert answer.exit_code == 2
    assert "nobody is there to be asked, and nothing was done" in answer.stderr


def test_nobody_is_asked_where_nobody_answers(
    run: Cli, server: EmbeddedServer, prover: str, databases_of: Callable[[str], list[str]]
) -> None:
    answer = run("prove", DATABASE_URL=server.url("postgres", prover))

    assert answer.exit_code == 2
    assert "connections at a time" in answer.stderr
    assert "nobody is there to be asked, and nothing was done: add --yes" in answer.stderr
    assert databases_of(prover) == []


def test_a_broken_promise_is_in_the_certificate_and_in_the_exit_code(
    run: Cli,
    server: EmbeddedServer,
    databases_of: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The storm is a scene here, in which one thing goes wrong for certain."""
    before = databases_of("postgres")
    monkeypatch.setattr("jobplatform.cli.prove.Experiment", BrokenExperiment)
    file = tmp_path / "certificate.md"

    answer = run("prove", "--yes", "--output", str(file), DATABASE_URL=server.url("postgres"))

    assert answer.exit_code == 1
    assert answer.stdout == file.read_text()
    assert "**VIOLATED: " in answer.stdout
    assert "| no write is accepted from an attempt that is over" in answer.stdout
    assert "- **stale**: job " in answer.stdout
    assert [name for name in databases_of("postgres") if name not in before and "prove" in name] == []


class BrokenExperiment:
    """A worker that comes too late completes its job all the same."""

    def __init__(self, setup: Setup, place: Place, folder: Path, say: Callable[[str], None]) -> None:
        self.url = place.url

    def run(self) -> Outcome:
        migrations.upgrade(self.url)
        prepare(self.url)
        stage = Stage(self.url)
        try:
            with broken("completing without a fence"):
                a_stopped_worker_completes_late(stage)
                stage.finish()
            return Outcome(stage.evidence(), Counter(), Counter(), 1, 0, 1.0, 1.0, {})
        finally:
            stage.close()


def test_ctrl_c_leaves_neither_a_database_nor_a_process(
    server: EmbeddedServer, prover: str, databases_of: Callable[[str], list[str]], start: Callable[..., Running]
) -> None:
    running = start("prove", "--yes", "--workers", "1", "--jobs", "200", DATABASE_URL=server.url("postgres", prover))
    running.wait_for_line("seed ")
    started = wait_until(lambda: descendants_of(running.process.pid), what="a worker to begin")
    assert len(databases_of(prover)) == 1

    code = running.end()

    assert code == 130, running.output
    assert running.lines[-1] == "stopped: what was broken off has no certificate"
    assert databases_of(prover) == []
    assert [pid for pid in started if not is_dead(pid)] == []
