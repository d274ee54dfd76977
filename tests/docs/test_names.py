"""What the documentation names exists, and what exists is documented where it should be."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from jobplatform.api import openapi_document
from jobplatform.cli import main
from jobplatform.models import Base, Job
from jobplatform.settings import TEST_NAMES, Settings
from tests.docs.pages import PAGES, ROOT, blocks_of, inline_code, name, table_rows

REFERENCE = ROOT / "docs" / "reference"
#: Settings whose default is said in words, because it depends on the machine or on the tasks.
DEFAULTS_IN_WORDS = {
    "database_url": "embedded",
    "data_dir": "the user's data folder",
    "postgres_programs": "those of its wheel",
    "queues": "all its tasks name",
    "encryption_keys": "none",
    "direct_database_url": "none",
    "portal_frame_ancestors": "none",
    "exports": "a folder below the data folder",
    "exports_endpoint": "none",
    "public_url": "none",
    "health_port": "none",
    "trusted_proxies": "none",
    "oauth_clients": "none",
    "oauth_redirect_url": "none",
}
AN_ID = "0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10"
PLACEHOLDERS = dict.fromkeys(
    (
        "JOB_ID",
        "BATCH_ID",
        "ACTION_ID",
        "CONNECTION_ID",
        "SYNC_LOG_ID",
        "HOOK",
        "WEBHOOK",
        "WORKSPACE",
        "$WORKSPACE",
    ),
    AN_ID,
)
WORDS_OF_A_SHELL = {"|", "||", "&&", "&", ";", ">", "<", ")", "("}


# Settings


@pytest.mark.parametrize(
    ("page", "heading"),
    [(ROOT / "README.md", "## Configuration"), (REFERENCE / "settings.md", "# Settings")],
    ids=["README.md", "settings.md"],
)
def test_the_table_of_settings_is_the_settings(page: Path, heading: str) -> None:
    documented = {row[0].strip("`"): row[1].strip("`") for row in table_rows(page, heading)}

    assert documented.pop("JOBS_DATABASE_URL") == ""
    assert documented == {_variable(field.name): _default(field.name) for field in fields(Settings)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_variable_that_is_named_is_read(page: Path) -> None:
    known = {f"JOBPLATFORM_{field.name.upper()}" for field in fields(Settings)} | _keys_of_flask_config() | TEST_NAMES

    named = set(re.findall(r"\bJOBPLATFORM_[A-Z][A-Z_]*", page.read_text()))

    assert named <= known


# Commands


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_that_is_shown_can_be_called(page: Path) -> None:
    for words in _shown_commands(page):
        _parse(main, words)


def test_every_command_and_option_is_in_the_reference() -> None:
    page = (REFERENCE / "cli.md").read_text()

    missing = [word for words in _command_tree(main, ("jobplatform",)) for word in words if f"`{word}" not in page]
    undocumented = [word for word in missing if f"## {word}\n" not in page]

    assert undocumented == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_that_is_shown_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    code = [*inline_code(page), *(line for block in blocks_of(page) for line in block.text.splitlines())]

    assert {match[1] for line in code if (match := re.match(r"make ([a-z]+)", line))} <= targets


# The API


def test_the_paths_of_the_reference_are_those_of_the_api() -> None:
    documented = {row[0].strip("`") for row in table_rows(REFERENCE / "http-api.md", "## Paths")}

    assert documented == {
        f"{method.upper()} {path}"
        for path, operations in openapi_document()["paths"].items()
        for method in operations
        if method != "parameters"
    }


def test_every_field_of_a_job_and_every_option_is_in_the_reference() -> None:
    page = (REFERENCE / "http-api.md").read_text()
    schemas = openapi_document()["components"]["schemas"]
    names = {*schemas["Job"]["properties"], *schemas["NewJob"]["properties"], *schemas["NewSync"]["properties"]}

    assert {field for field in names if f"`{field}`" not in page} == set()


def test_every_kind_of_problem_is_documented() -> None:
    documented = {row[0].strip("`") for row in table_rows(REFERENCE / "problems.md", "# Problems")}

    assert documented == _kinds_of_problems()


# Tables


def test_every_table_and_column_is_in_the_reference() -> None:
    page = (REFERENCE / "schema.md").read_text()

    for table in [*Base.metadata.tables.values()]:
        heading = "## jobs (view)" if table.name == Job.__tablename__ else f"## {table.name}"
        section = page.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
        assert {column.name for column in table.columns if f"`{column.name}`" not in section} == set(), table.name


# Python


def test_every_public_name_of_the_reference_can_be_imported() -> None:
    text = (REFERENCE / "python.md").read_text()
    sections = re.split(r"^## (jobplatform[.\w]+)$", text, flags=re.MULTILINE)[1:]

    for module, section in zip(sections[::2], sections[1::2], strict=True):
        words = re.findall(r"`([A-Za-z_]+)`", section.split("```")[0])
        doors = {*dir(import_module(module))}
        assert {word for word in words if word not in doors | WORDS_THAT_ARE_NO_NAMES} == set(), module


WORDS_THAT_ARE_NO_NAMES = {"Exception", "authorize", "jobs", "pages_access", "sync"}


# Links


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())

    broken = [target for target in targets if not target.startswith("http") and not _leads_somewhere(page, target)]

    assert broken == []


def test_every_page_can_be_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [page.relative_to(ROOT / "docs") for page in PAGES if "docs" in page.parts]

    assert [str(page) for page in pages if f"({page})" not in index and page.name != "README.md"] == []


def _variable(field: str) -> str:
    if field == "cron_tz":
        return "JOBS_CRON_TZ"
    return "DATABASE_URL" if field == "database_url" else f"JOBPLATFORM_{field.upper()}"


def _default(field: str) -> str:
    if field in DEFAULTS_IN_WORDS:
        return DEFAULTS_IN_WORDS[field]
    value = getattr(Settings(), field)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _keys_of_flask_config() -> set[str]:
    extension = (ROOT / "platform" / "api" / "extension.py").read_text()
    return set(re.findall(r"\"(JOBPLATFORM_[A-Z_]+)\"", extension))


def _kinds_of_problems() -> set[str]:
    sources = [path.read_text() for path in (ROOT / "platform" / "api").rglob("*.py")]
    kinds = import_module("jobplatform.api.problems").KINDS
    return {*kinds.values(), *(kind for text in sources for kind in re.findall(r"kind=\"([a-z-]+)\"", text))}


def _shown_commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each ``jobplatform …`` in shell blocks and between backticks."""
    shells = [block.text.replace("\\\n", " ") for block in blocks_of(page) if block.language in ("bash", "ini")]
    lines = [line for shell in shells for line in shell.splitlines()]
    # Between backticks with a sub-command: the bare word is the project, or an extra, or a schema.
    lines += [code for code in inline_code(page) if re.search(r"(^|[ /])jobplatform +\S", code)]
    for line in lines:
        if match := re.search(r"(?:^|[\s/(:])jobplatform +([a-z-].*)", line):
            yield _until_shell_word(match[1])


def _until_shell_word(line: str) -> list[str]:
    words = []
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for word in lexer:
        if word in WORDS_OF_A_SHELL:
            break
        words.append(PLACEHOLDERS.get(word, word))
    return words


def _parse(command: click.Command, words: list[str]) -> None:
    """As click would, up to where the command would begin to work."""
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        sub = command.get_command(click.Context(command), words[0])
        assert sub is not None, f"there is no command {words[0]!r} in {command.name}"
        _parse(sub, words[1:])
    elif (problem := _complaint(command, words)) is not None:
        raise AssertionError(f"{command.name} {' '.join(words)}: {problem}")


def _complaint(command: click.Command, words: list[str]) -> str | None:
    """What click has against these arguments. Prose may leave out what it is not about, so that is none."""
    try:
        command.make_context(command.name, list(words))
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError, click.exceptions.Exit):
        return None
    except click.UsageError as error:
        return error.format_message()
    return None


def _command_tree(command: click.Command, path: tuple[str, ...]) -> Iterator[list[str]]:
    yield [" ".join(path)] if len(path) > 1 else []
    yield [
        name
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for name in parameter.opts
    ]
    if isinstance(command, click.Group):
        for sub in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), sub)
            assert found is not None
            yield from _command_tree(found, (*path, sub))


def _leads_somewhere(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
        return False
    return not anchor or anchor in _anchors(file)


def _anchors(page: Path) -> set[Any]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
