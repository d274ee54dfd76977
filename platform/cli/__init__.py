"""The ``jobplatform`` command: composition roots, and what a person sees of them in a terminal."""

from jobplatform.cli.root import main

__all__ = ["main"]
