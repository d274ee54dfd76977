"""Code in the documentation works."""

from __future__ import annotations

import json
import sys
import types
import uuid
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from tests.docs.pages import PAGES, Block, blocks, blocks_of, name

PAGES_THAT_RUN = [page for page in PAGES if any("run" in block.words for block in blocks_of(page))]
SQL = [block for block in blocks("sql") if "no-run" not in block.words]


@pytest.mark.parametrize("page", PAGES_THAT_RUN, ids=name)
def test_the_runnable_python_of_a_page_runs(
    page: Path,
    database_url: str,
    engine: Engine,
    sessions: sessionmaker[Session],
    workspace_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    module = types.ModuleType(f"page_{page.stem.replace('-', '_')}")
    vars(module).update(engine=engine, sessions=sessions, workspace_id=workspace_id)
    # Annotations and dataclasses look their module up by name.
    monkeypatch.setitem(sys.modules, module.__name__, module)

    for block in blocks_of(page):
        if "run" in block.words:
            exec(_compiled(block), vars(module))


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.label)
def test_python_is_python(block: Block) -> None:
    _compiled(block)


@pytest.mark.parametrize("block", SQL, ids=lambda block: block.label)
def test_sql_runs_on_our_schema(block: Block, session: Session) -> None:
    for statement in filter(str.strip, block.text.split(";")):
        session.execute(text(statement))
    session.rollback()


@pytest.mark.parametrize("block", blocks("json"), ids=lambda block: block.label)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


def _compiled(block: Block) -> types.CodeType:
    # As many lines before it as on the page, so that a traceback names the page's line.
    return compile("\n" * (block.line - 1) + block.text, str(block.page), "exec", dont_inherit=True)
