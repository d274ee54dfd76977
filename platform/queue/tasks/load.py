"""Load: the tasks of an application, imported by the name that its settings give them."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from types import ModuleType

from jobplatform.errors import JobPlatformError, SettingsError
from jobplatform.queue.tasks.registry import Tasks


def load_tasks(name: str) -> Tasks:
    """Import the :class:`Tasks` that ``module:attribute`` names; the current folder is searched too.

    Raises :class:`SettingsError` with what to correct.
    """
    if not name or str(name) != name:
        raise SettingsError([f"JOBPLATFORM_TASKS={name!r:.100}: must look like module:attribute"])
    module_name, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    module = _imported(module_name, name)
    if not hasattr(module, attribute):
        meant = _meant(module)
        raise SettingsError([f"JOBPLATFORM_TASKS={name!r}: {module_name} has no attribute {attribute!r}{meant}"])
    tasks = getattr(module, attribute)
    if not isinstance(tasks, Tasks):
        raise SettingsError([f"JOBPLATFORM_TASKS={name!r}: is a {type(tasks).__name__}, not a Tasks{_meant(module)}"])
    tasks.loaded_from = name
    return tasks


def _meant(module: ModuleType) -> str:
    found = [name for name, value in vars(module).items() if isinstance(value, Tasks)]
    return f"; did you mean {found[0]!r}?" if found else ""


def _is_absent(module_name: str, error: ImportError) -> bool:
    """Whether it is the module, or a package that it is in, that is not there, and not something that it imports."""
    return isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")


def _where_it_was_looked_for() -> str:
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        folder = "which is not there any more"
    return f"; it was looked for in the current folder, {folder}, and in what {sys.executable} has installed"


def _imported(module_name: str, asked: str) -> ModuleType:
    """A module of somebody else's, in which anything may happen. Its own traceback stays with what is raised."""
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        where = _where_it_was_looked_for() if _is_absent(module_name, error) else ""
        raise SettingsError([f"JOBPLATFORM_TASKS={asked!r}: cannot import {module_name}: {error}{where}"]) from error
    except JobPlatformError:
        raise  # It says what is wrong with a task.
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        problem = f"JOBPLATFORM_TASKS={asked!r}: importing {module_name} failed, {_place_of(error)}: {what}"
        raise SettingsError([problem]) from error


def _place_of(error: Exception) -> str:
    """The line of their code that came last, or the one that cannot be read."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}, line {frame.lineno}"
