"""Where pytest finds the fixtures of ``jobplatform.testing``: they are in :mod:`jobplatform.pytest_plugin`.

pytest rewrites the asserts of what a plugin's distribution has at its top level. ``jobplatform`` has no ``__init__``,
so without a module here pytest takes the folders in it for top-level packages: one is called ``queue``, and a warning
says that the standard library's has been imported already.
"""

from __future__ import annotations

pytest_plugins = ["jobplatform.pytest_plugin"]
