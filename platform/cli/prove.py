"""``jobplatform prove``: a storm of faults on the user's own server, and a certificate of what came of it."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import psycopg

from jobplatform.cli.asking import confirmed, require_somebody
from jobplatform.cli.refusals import first_line
from jobplatform.cli.root import UnusableSettings
from jobplatform.cli.show import as_json_option, plain, print_json, text_of_json
from jobplatform.cli.stack import interruptible_once
from jobplatform.models import Role
from jobplatform.proof.certificate import Certificate, Verdict, certify
from jobplatform.proof.checker import judge
from jobplatform.proof.experiment import Experiment
from jobplatform.proof.markdown import as_markdown, verdict_in_words
from jobplatform.proof.occupy import occupy_database
from jobplatform.proof.onlooker import connect
from jobplatform.proof.place import Place, in_database, in_given_database, on_given_server, on_own_server, scratch
from jobplatform.proof.setup import Setup
from jobplatform.proof.survey import Survey, is_pooled, look_at, settings_of, what_is_missing
from jobplatform.settings import Settings
from jobplatform.wording import plural

SUFFIXES = (".md", ".json")
#: In bytes, of 11,000 jobs with all that is written down about them; the WAL has pages in full after each checkpoint.
WAL_OF_A_JOB, DISK_OF_A_JOB = 20_000, 9_000


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the options say about where it takes place."""

    database: str | None
    keep: bool
    yes: bool
    as_json: bool


class OutputFile(click.ParamType[Path]):
    """A file that can be written when the run is over, which is a bad moment to learn that it cannot."""

    name = "file"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if path.suffix not in SUFFIXES:
            self.fail(f"{value!r} ends neither in .md, for Markdown, nor in .json", param, ctx)
        if not os.access(path.parent, os.W_OK) or path.is_dir():
            self.fail(f"nothing can be written to {value!r}", param, ctx)
        return path


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True, help="About.")
@click.option("--jobs", type=click.IntRange(min=100), default=11_000, show_default=True, help="How many are asked for.")
@click.option("--workers", type=click.IntRange(1, 64), default=4, show_default=True, help="Twice as many for a while.")
@click.option("--seed", type=int, help="The same jobs and the same order of faults as another run had.")
@click.option("--database", help="An empty database of the server to use, where the login may not make one.")
@click.option("--keep", is_flag=True, help="Keep database and logs, and say where.")
@click.option("--output", type=OutputFile(), help="Write the certificate to this file too: .md or .json.")
@click.option("--yes", is_flag=True, help="Do not ask before a server is used that DATABASE_URL names.")
@as_json_option
def prove(
    minutes: float,
    jobs: int,
    workers: int,
    seed: int | None,
    database: str | None,
    keep: bool,
    output: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Kill and stop all there is while jobs run, and print a certificate of what became of every promise.

    On the server that DATABASE_URL names, in a database that is made for it and dropped at the end; without one on an
    embedded server of its own, which is restarted too. It kills its own workers and terminates its own connections,
    and touches nothing else. Exit code 0 if every promise was put to the test and held.
    """
    settings = Settings.from_env()
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    setup = Setup.sized(seed=seed, jobs=jobs, minutes=minutes, workers=workers)
    with interruptible_once(), _plain_errors(), _telling_of_an_interruption():
        certificate = _run(setup, settings, Wishes(database, keep, yes, as_json))
    if output is not None:
        _write(output, certificate)
    if as_json:
        print_json(plain(certificate))
    else:
        click.echo(as_markdown(certificate), nl=False)
    _say(f"\n{verdict_in_words(certificate)}" + (f" Written to {output}." if output else ""))
    if certificate.verdict is not Verdict.HELD:
        _say(f"To repeat it: jobplatform prove --seed {seed} --minutes {minutes:g} --jobs {jobs} --workers {workers}")
        raise SystemExit(1)


def _run(setup: Setup, settings: Settings, wishes: Wishes) -> Certificate:
    """The storm, and then the judgement: by then everything that was made for it is gone."""
    with scratch(wishes.keep, _say) as folder:
        with _place(setup, settings, wishes, folder) as (place, server):
            _say(f"seed {setup.seed}: {setup.jobs:,} jobs, {plural(setup.workers, 'worker')}")
            found = settings_of(place.url)
            outcome = Experiment(setup, place, folder, _say).run()
        _say("judging")
        return certify(setup, outcome, judge(outcome.evidence), server=server, settings=found)


# Where


@contextlib.contextmanager
def _place(setup: Setup, settings: Settings, wishes: Wishes, folder: Path) -> Iterator[tuple[Place, str]]:
    """The place, and in words which one it is."""
    if settings.database_url is None:
        if wishes.database:
            raise click.UsageError("--database is for a server that DATABASE_URL names, and it names none")
        with on_own_server(folder, programs=settings.postgres_programs) as place:
            yield place, "embedded, made for this run"
        return
    url, direct_url = settings.database_url, settings.direct_database_url or settings.database_url
    if wishes.database:
        url, direct_url = in_database(url, wishes.database), in_database(direct_url, wishes.database)
    pooled = is_pooled(url)
    # It may be of a worker's login, in an environment for all: it is no better where nothing stands between.
    admin_url = direct_url if pooled else url
    with contextlib.ExitStack() as stack:
        if wishes.database:
            stack.enter_context(_nobody_else_in(wishes.database, admin_url))
        survey = look_at(admin_url)
        words = _in_words(survey, pooled=pooled)
        _require(survey, setup, in_database=bool(wishes.database))
        _ask(words, survey, setup, wishes)
        opened = in_given_database if wishes.database else on_given_server
        place = stack.enter_context(opened(url, survey, _say, admin_url=admin_url, keep=wishes.keep))
        if pooled and not wishes.database:
            _require_a_way_in(place)
        yield place, words


@contextlib.contextmanager
def _nobody_else_in(database: str, url: str) -> Iterator[None]:
    """Two runs at once would be each other's storm, and the first to end would clear away the other's tables."""
    with occupy_database(url) as occupant:
        if occupant is not None:
            raise UnusableSettings(
                f"another run has the database {database}, and nothing was done to it: {occupant}; wait for its end, "
                "or name another one (where no run is left, and its connection is: "
                f"select pg_terminate_backend({occupant.pid}))"
            )
        yield


def _require(survey: Survey, setup: Setup, *, in_database: bool) -> None:
    missing = what_is_missing(survey, connections=setup.connections, in_database=in_database)
    if missing:
        lines = "".join(f"\n  - {line}" for line in missing)
        raise UnusableSettings(f"a run cannot be had on this server, and nothing was done to it:{lines}")


def _require_a_way_in(place: Place) -> None:
    """A pooler may know databases by name only, and one that was just made is none of them."""
    try:
        connect(place.url).close()
    except psycopg.OperationalError as error:
        raise UnusableSettings(
            "the pooler that DATABASE_URL names lets nobody into the database that was made for this: have it let "
            "clients into all (PgBouncer: a line `* = host=…`), or have an empty one made that it knows, and name that "
            f"with --database ({str(error).strip()})"
        ) from error


def _ask(words: str, survey: Survey, setup: Setup, wishes: Wishes) -> None:
    """Say what is going to happen to somebody's server, and have them agree."""
    if not wishes.yes:
        require_somebody(as_json=wishes.as_json)
    _say(f"On {words}:")
    for line in _plan(survey, setup, wishes):
        _say(f"  - {line}")
    if not (wishes.yes or confirmed("Begin?")):
        raise SystemExit(1)


def _plan(survey: Survey, setup: Setup, wishes: Wishes) -> Iterator[str]:
    then = "and stay (--keep)" if wishes.keep else "and are gone at the end, also after Ctrl-C"
    if wishes.database:
        yield f"tables and more are made in the database {wishes.database}, which is empty, {then}"
    else:
        yield f"a database and all that is in it are made for this, {then}"
    if made := [role for role in Role if role not in survey.existing]:
        yield f"roles that are not there yet are made, {then}: {', '.join(made)}"
    yield f"up to {setup.connections} connections at a time, where {survey.room} may be had"
    wal, disk = (round(setup.jobs * one / 1e6) for one in (WAL_OF_A_JOB, DISK_OF_A_JOB))
    yield f"about {plural(setup.jobs, 'job')}, which take some {wal} MB of WAL, and {disk} MB on disk meanwhile"
    yield "connections of its own are terminated, and its own workers, on this machine, killed and stopped"
    yield "no other database is touched, no setting is changed, and the server is not restarted"


def _in_words(survey: Survey, *, pooled: bool) -> str:
    extras = [word for word, is_so in (("through a pooler", pooled), ("encrypted", survey.encrypted)) if is_so]
    return ", ".join([f"PostgreSQL {survey.version} at {survey.address}", f"as {survey.login}", *extras])


# What is said, and where


def _write(path: Path, certificate: Certificate) -> None:
    """All of it or nothing, whoever reads meanwhile."""
    text = text_of_json(plain(certificate)) if path.suffix == ".json" else as_markdown(certificate)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """What the server said, without the way it took to us."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise click.ClickException(f"the database cannot be reached: {str(error).strip()}") from error
    except psycopg.Error as error:
        raise click.ClickException(f"the database refused: {first_line(error)}") from error


@contextlib.contextmanager
def _telling_of_an_interruption() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _say("stopped: what was broken off has no certificate")
        raise


def _say(line: str) -> None:
    """Beside the certificate, which may go into a file or another program."""
    click.echo(line, err=True)
