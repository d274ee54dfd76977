"""``jobplatform keys``: the master keys of encryption."""

from __future__ import annotations

import click

from jobplatform.cli.acting import audit
from jobplatform.cli.database import open_session
from jobplatform.cli.show import as_json_option, print_json, print_table, tell
from jobplatform.key_ring import generate_key
from jobplatform.queue import key_ring, master_keys_in_use, rewrap_keys
from jobplatform.wording import plural


@click.group()
def keys() -> None:
    """Make, list and rotate the master keys of encryption (JOBPLATFORM_ENCRYPTION_KEYS)."""


@keys.command()
@click.argument("key_id")
@as_json_option
def generate(key_id: str, as_json: bool) -> None:
    """Print a new master key as an entry of JOBPLATFORM_ENCRYPTION_KEYS. It is kept nowhere: keep it."""
    try:
        entry = generate_key(key_id)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    tell(as_json, entry, id=key_id, entry=entry)


@keys.command()
@as_json_option
def ls(as_json: bool) -> None:
    """List the master keys that wrap data keys, and those of this environment. Exit code 1 when one is missing here."""
    with open_session() as session:
        used = master_keys_in_use(session)
        # Only now: an embedded database brings a key of its own.
        ring = key_ring()
    here = ring.names if ring else ()
    rows = [(name, name in here, name in here[:1], used.get(name, 0)) for name in dict.fromkeys([*here, *used])]
    if as_json:
        names = ("id", "here", "wraps", "dataKeys")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        shown = [(name, _yes(is_here), _yes(wraps), count) for name, is_here, wraps, count in rows]
        print_table(["id", "here", "wraps new ones", "data keys"], shown)
    if set(used) - set(here):
        raise SystemExit(1)


@keys.command()
@as_json_option
def rotate(as_json: bool) -> None:
    """Wrap every data key by the first master key. What is sealed stays as it is, and jobs run on meanwhile."""
    done = 0
    with open_session() as session:
        while some := rewrap_keys(session):
            session.commit()
            done += some
        ring = key_ring()
        assert ring is not None
        audit(session, "keys.rotate", f"key:{ring.names[0]}", dataKeys=done)
    wrapped = plural(done, "data key is", "data keys are")
    sentence = f"{wrapped} wrapped by {ring.names[0]} now; those before it can go from every process"
    tell(as_json, sentence, id=ring.names[0], data_keys=done)


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"
