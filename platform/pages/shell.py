"""What every page stands in: who may see it, what its answer's headers say, and how it is reached.

A :class:`Shell` is a blueprint for one audience: the operator's console, a tenant's portal. Its sections say for each
view what it is (:meth:`Section.page`, :meth:`Section.action`, :meth:`Section.open`); a view that says nothing keeps
the application from starting.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from flask import Blueprint, Flask, current_app, g, request, url_for
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from jobplatform.api.mounted import Mounted, serving_blueprint_name, serving_url
from jobplatform.models import Workspace
from jobplatform.pages.attempts import Attempts
from jobplatform.pages.inner_api import Answer, InnerApi
from jobplatform.pages.problems import PageError
from jobplatform.pages.visitors import VERBS, Access, Visitor

View = TypeVar("View", bound=Callable[..., Any])

_DECLARED = "_jobplatform_page"
#: A page that takes longer is given up: what it asks is worth no more of the database's time.
STATEMENT_TIMEOUT = "5s"
#: Planned for what is asked: a plan that is made for any workspace takes ten times as long for the one with most jobs.
_LOOK_ONLY = (
    f"set transaction read only; set local statement_timeout = '{STATEMENT_TIMEOUT}'; "
    "set local plan_cache_mode = force_custom_plan"
)


@dataclass(frozen=True, slots=True)
class PagesOptions:
    """What an operator decides about the pages."""

    read_only: bool = False
    """Nothing can be done in them, whoever looks."""
    session_hours: float = 8.0
    """How long a session lasts that a token was exchanged for."""
    frame_ancestors: str = ""
    """Who may show the portal inside a page of theirs, as the CSP says it (``'self' https://app.example``); nobody."""


class Declared(NamedTuple):
    """What a view said of itself. ``verb``: what it does or is a form for; None for looking. ``is_open``: for
    everybody.
    """

    verb: str | None = None
    is_open: bool = False


class NavItem(NamedTuple):
    """A place in the menu. ``icon`` is one of those in ``_icons.html``; a new ``group`` begins a new block."""

    view: str
    label: str
    icon: str
    group: str = ""


class Section(Blueprint):
    """Pages that belong together."""

    def page(self, rule: str, verb: str | None = None) -> Callable[[View], View]:
        """Something to look at. ``verb``: a form for nothing but this, and nothing for those who may not do it."""
        return self._declare(rule, ("GET",), Declared(_known(verb)))

    def action(self, rule: str, verb: str | None) -> Callable[[View], View]:
        """Something to do, by a form. ``verb`` is one of :data:`VERBS`; None for what concerns the visitor alone."""
        return self._declare(rule, ("POST",), Declared(_known(verb)))

    def open(self, rule: str, method: str = "GET") -> Callable[[View], View]:
        """For everybody; it tells nothing about anybody."""
        return self._declare(rule, (method,), Declared(is_open=True))

    def _declare(self, rule: str, methods: Sequence[str], declared: Declared) -> Callable[[View], View]:
        def decorate(view: View) -> View:
            setattr(view, _DECLARED, declared)
            # Not a redirect to the same with a slash: it would say that there is something.
            self.add_url_rule(rule, view.__name__, view, methods=list(methods), strict_slashes=False)
            return view

        return decorate


def _known(verb: str | None) -> str | None:
    if verb is not None and verb not in VERBS:
        raise ValueError(f"{verb!r} is not one of {', '.join(VERBS)}")
    return verb


class Shell(Blueprint):
    """The pages for one audience, ready to be registered under a prefix."""

    def __init__(
        self,
        name: str,
        mounted: Mounted,
        *,
        title: str,
        for_operators: bool,
        home: str,
        navigation: Sequence[NavItem],
        sections: Sequence[Section],
        api: InnerApi | None = None,
        access: Access | None = None,
        options: PagesOptions | None = None,
    ) -> None:
        super().__init__(name, __name__)
        #: By this the API's own functions know what the request works with.
        self.mounted = mounted
        self.title = title
        self.for_operators = for_operators
        self.home = home
        self.navigation = navigation
        self.access = access
        self.options = options or PagesOptions()
        self.api = api or InnerApi(mounted)
        self.attempts = Attempts()
        self.prefix = ""
        self.mounted_as = name
        self.openness = _Openness()
        for section in sections:
            self.register_blueprint(section)

    def register(self, app: Flask, options: dict[str, Any]) -> None:  # type: ignore[override]  # the App is a Flask
        self.prefix = options.get("url_prefix") or self.url_prefix or ""
        super().register(app, options)
        name = ".".join(filter(None, (options.get("name_prefix"), options.get("name", self.name))))
        self.mounted_as = name
        for endpoint, view in app.view_functions.items():
            if endpoint.startswith(f"{name}.") and not hasattr(view, _DECLARED):
                raise RuntimeError(f"the page {endpoint} does not say what it is: page, action or open")

    def home_of(self, workspace_id: UUID | None) -> str:
        """The first page of an audience of one workspace, or of operators."""
        values = {} if self.for_operators else {"tenant_id": workspace_id}
        return url_for(f"{self.mounted_as}.{self.home}", **values)  # type: ignore[arg-type]  # whatever a path takes

    @property
    def cookie(self) -> str:
        return f"jobplatform_{self.name}"

    @property
    def cookie_path(self) -> str:
        return request.script_root + self.prefix or "/"

    @property
    def session_lasts(self) -> datetime.timedelta:
        return datetime.timedelta(hours=self.options.session_hours)


@dataclass
class _Openness:
    """Whether anybody could sign in, remembered for a moment."""

    asked_at: float = -1e9
    answer: bool = False


@dataclass
class Visit:
    """One request of somebody who was let in."""

    visitor: Visitor
    workspace_id: UUID | None
    #: What the workspace is called; empty until something of it was looked at, and where it has no name.
    workspace_name: str = ""

    def may(self, verb: str) -> bool:
        return not current_shell().options.read_only and self.visitor.may_do(verb)


def declared_of(endpoint: str | None) -> Declared:
    found: Declared = getattr(current_app.view_functions[endpoint or ""], _DECLARED)
    return found


def current_shell() -> Shell:
    """The shell that serves this request."""
    found = current_app.blueprints[serving_blueprint_name()]
    assert isinstance(found, Shell)
    return found


def current_visit() -> Visit:
    """Whose request this is. Only in pages that are not open."""
    found: Visit = g.jobplatform_visit
    return found


def visit_or_none() -> Visit | None:
    found: Visit | None = g.get("jobplatform_visit")
    return found


def may(verb: str) -> bool:
    """Whether a button for it is shown."""
    visit = visit_or_none()
    return visit is not None and visit.may(verb)


def require(verb: str) -> None:
    """Raises :class:`PageError` with 403 for those who may not do it."""
    if may(verb):
        return
    if current_shell().options.read_only:
        raise PageError(403, "These pages are for looking", "Nothing can be changed here.")
    raise PageError(403, "You may not do this", f"It takes the right to {verb}, which you do not have.")


def url(view: str, **values: Any) -> str:
    """Where a page of this shell is: ``url("jobs.list_jobs", status="failed")``. None is left out."""
    return serving_url(view, **{name: value for name, value in values.items() if value is not None})


@contextlib.contextmanager
def looking() -> Iterator[Session]:
    """A transaction for one page: it reads, cannot write, and is given up after five seconds."""
    mounted = current_shell().mounted
    with mounted.reading() as session:
        session.execute(text(_LOOK_ONLY))
        _note_name(session)
        yield session


def _note_name(session: Session) -> None:
    """A portal says on each page whose it is."""
    visit = visit_or_none()
    if visit is None or visit.workspace_id is None:
        return
    statement = select(Workspace.name).where(Workspace.id == visit.workspace_id)
    visit.workspace_name = session.scalar(statement) or ""


def ask(
    method: str,
    path: str,
    body: Any = None,
    *,
    query: dict[str, Any] | None = None,
    key: str | None = None,
    if_match: str | None = None,
    is_new: bool = False,
) -> Answer:
    """Ask the API, in the name of who is there: ``ask("POST", f"/workspaces/{id}/jobs/{job}/retry")``."""
    visit = current_visit()
    principal = visit.visitor.as_principal(visit.workspace_id)
    return current_shell().api.ask(
        principal, method, path, body, query=query, key=key, if_match=if_match, is_new=is_new
    )
