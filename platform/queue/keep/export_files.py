"""Where an export goes: a zip file or a folder. Nothing has the name that was asked for before it is complete."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol

Write = Callable[[str], object]


class Files(Protocol):
    """Opens one file after the other, each until the next."""

    def open(self, name: str) -> AbstractContextManager[Write]:
        """A new file of that name, to be written piece by piece."""


@contextmanager
def export_files(path: Path) -> Iterator[Files]:
    """The files of an export in ``path``: a zip file when it is called one, else a folder that must not exist yet.

    Only its owner can read it. What an exception leaves half done is taken away.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already")
    draft = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with _zip(draft) if path.suffix == ".zip" else _folder(draft) as files:
            yield files
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with contextlib.suppress(OSError):
            draft.unlink()


@contextmanager
def _zip(path: Path) -> Iterator[Files]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        yield _ZipFiles(archive)


@contextmanager
def _folder(path: Path) -> Iterator[Files]:
    path.mkdir(mode=0o700)
    yield _FolderFiles(path)


class _ZipFiles:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    @contextmanager
    def open(self, name: str) -> Iterator[Write]:
        # A table may be larger than what a plain zip entry can hold.
        with self._archive.open(name, "w", force_zip64=True) as entry, _as_text(entry) as text:
            yield text.write


class _FolderFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def open(self, name: str) -> Iterator[Write]:
        with (self._folder / name).open("w", encoding="utf-8") as file:
            yield file.write


def _as_text(entry: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(entry, encoding="utf-8")
