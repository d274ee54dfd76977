"""The plugin as a project uses it: a conftest and tests of its own, in a run of its own."""

from __future__ import annotations

import uuid

import pytest

from jobplatform import pytest_plugin
from jobplatform.testing import DatabaseServer, wait_until
from jobplatform.testing.server import PREFIX
from tests.docs.pages import ROOT, blocks_of

pytest_plugins = ["pytester"]

#: And without schemathesis, whose import warns on Python 3.14; in our process a warning is an error.
QUIETLY = ("-q", "-p", "no:schemathesis")

PAGE = ROOT / "docs" / "howto" / "test-your-jobs.md"

CONFTEST = """
def pytest_jobplatform_template(engine):
    with engine.begin() as connection:
        connection.exec_driver_sql("create table people (name text)")
"""
TESTS = """
import pytest
from sqlalchemy import text

seen = set()

@pytest.mark.parametrize("number", range(3))
def test_everybody_is_alone(jobplatform_session, jobplatform_database_url, number):
    assert jobplatform_session.scalar(text("select count(*) from people")) == 0
    jobplatform_session.execute(text("insert into people values ('Ada')"))
    jobplatform_session.commit()
    seen.add(jobplatform_database_url)

def test_databases(request):
    assert len(seen) == {databases}
"""


@pytest.fixture
def project(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, jobplatform_server: DatabaseServer
) -> pytest.Pytester:
    """An empty project whose tests use this run's server as one that was given."""
    monkeypatch.setenv("JOBPLATFORM_TEST_DATABASE_URL", jobplatform_server.url("postgres"))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)
    pytester.syspathinsert()
    return pytester


@pytest.mark.thorough
def test_the_page_about_testing_is_a_project_whose_tests_pass(project: pytest.Pytester) -> None:
    for block in blocks_of(PAGE):
        if block.language == "python" and len(block.words) > 1:
            with (project.path / block.words[1]).open("a") as file:
                file.write(f"{block.text}\n\n")

    result = project.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-W", "error")

    result.assert_outcomes(passed=9)


@pytest.mark.parametrize(("mode", "databases"), [("fresh", 3), ("reused", 1)])
def test_tests_have_the_projects_tables_and_do_not_meet(project: pytest.Pytester, mode: str, databases: int) -> None:
    project.makeconftest(CONFTEST)
    project.makepyfile(TESTS.replace("{databases}", str(databases)))
    project.makeini(f"[pytest]\njobplatform_database = {mode}")

    result = project.runpytest_inprocess(*QUIETLY)

    result.assert_outcomes(passed=4)


def test_a_marked_test_has_a_database_of_its_own(project: pytest.Pytester) -> None:
    project.makeconftest(CONFTEST)
    project.makepyfile("""
        import pytest
        urls = []

        def test_one(jobplatform_database_url):
            urls.append(jobplatform_database_url)

        @pytest.mark.jobplatform_fresh_database
        def test_two(jobplatform_database_url):
            assert jobplatform_database_url not in urls

        def test_three(jobplatform_database_url):
            assert jobplatform_database_url in urls
    """)

    result = project.runpytest_inprocess(*QUIETLY, "--jobplatform-database", "reused", "--strict-markers")

    result.assert_outcomes(passed=3)


def test_a_mode_that_does_not_exist_is_refused(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(jobplatform_database_url): pass")
    project.makeini("[pytest]\njobplatform_database = recycled")

    result = project.runpytest_inprocess(*QUIETLY)

    result.stdout.fnmatch_lines("*jobplatform_database must be fresh or reused, not 'recycled'*")


def test_inline_and_manual_last_until_the_end_of_the_test(project: pytest.Pytester) -> None:
    project.makepyfile("""
        from jobplatform.queue import Tasks
        tasks = Tasks()

        def test_inline(jobplatform_inline):
            assert jobplatform_inline(tasks).mode == "sync"

        def test_manual(jobplatform_manual):
            assert tasks.mode == "queue"
            tasks.mode = "sync"
            assert jobplatform_manual(tasks).mode == "queue"

        def test_as_before():
            assert tasks.mode == "sync"
    """)

    project.runpytest_inprocess(*QUIETLY).assert_outcomes(passed=3)


@pytest.mark.thorough
def test_processes_of_one_run_share_a_template_and_leave_nothing(
    project: pytest.Pytester, jobplatform_server: DatabaseServer
) -> None:
    run = uuid.uuid4().hex
    theirs = f"{PREFIX}{run[:12]}_"
    project.makeconftest("""
        from pathlib import Path

        def pytest_jobplatform_template(engine):
            with Path("made").open("a") as file:
                file.write("once\\n")
    """)
    # The last process drops what the run made: if one of them were through before the other began, that would be both.
    project.makepyfile(
        """
        from pathlib import Path
        import pytest
        from jobplatform.testing import wait_until

        @pytest.mark.parametrize("number", range(6))
        def test_it(jobplatform_session, number, worker_id):
            assert jobplatform_session.get_bind().url.database.startswith("{theirs}")
            Path(f"{worker_id}.begun").touch()
            wait_until(lambda: len(list(Path().glob("*.begun"))) == 2, what="the other process")
    """.replace("{theirs}", theirs)
    )

    result = project.runpytest_subprocess("-q", "-n2", "-p", "no:cacheprovider", "--testrunuid", run)

    result.assert_outcomes(passed=6)
    assert (project.path / "made").read_text() == "once\n"
    # Another run that begins at this moment may be the one that drops them.
    wait_until(lambda: not jobplatform_server._databases(theirs), what="the end of the run's databases")


def test_what_a_worker_logged_is_shown_when_its_test_fails(project: pytest.Pytester) -> None:
    project.makepyfile(
        mytasks="""
        from jobplatform.queue import Tasks
        tasks = Tasks()

        @tasks.task("tell")
        def tell(job, payload):
            print("what the handler said")
        """,
        test_it="""
        from jobplatform.testing import wait_for
        from mytasks import tasks

        def test_it(jobplatform_session, jobplatform_workspace_id, jobplatform_worker):
            worker = jobplatform_worker("mytasks:tasks", JOBPLATFORM_CONCURRENCY="1")
            job = tasks["tell"].enqueue(jobplatform_session, workspace_id=jobplatform_workspace_id)
            wait_for(jobplatform_session, job, status="failed")
        """,
    )

    result = project.runpytest_inprocess(*QUIETLY)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*AssertionError: the job ended otherwise: tell * is completed after 1 attempt",
            "*log of worker 1*",
            "*what the handler said*",
        ]
    )


def test_whoever_uses_no_fixture_imports_nothing_and_starts_nothing(pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile("""
        import sys

        def test_nothing_was_imported(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("jobplatform")
            ours = {name for name in sys.modules if name.startswith("jobplatform") and "finder" not in name}
            assert ours <= {"jobplatform", "jobplatform_pytest", "jobplatform.pytest_plugin"}
            assert not {"sqlalchemy", "psycopg", "alembic", "flask", "marshmallow"} & set(sys.modules)
    """)

    result = pytester.runpytest_subprocess("-q", path)

    result.assert_outcomes(passed=1)


def test_every_fixture_has_our_prefix_and_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text()
    names = [name for name, value in vars(pytest_plugin).items() if type(value).__name__ == "FixtureFunctionDefinition"]

    assert len(names) == 11
    assert [name for name in names if not name.startswith("jobplatform_") or f"`{name}`" not in page] == []
