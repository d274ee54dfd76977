"""What every process of ours keeps in memory, because it was imported or copied."""

from __future__ import annotations

import copy
import subprocess
import sys

from jobplatform.api.schemas.jobs import ProgressSchema


def test_who_migrates_nothing_does_not_import_what_migrates() -> None:
    program = "import sys, jobplatform.worker, jobplatform.api, jobplatform.queue; print('alembic' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def test_what_documents_a_route_holds_its_schema_and_no_copy_of_it() -> None:
    schema = ProgressSchema(many=True)

    assert copy.deepcopy({"schema": schema})["schema"] is schema
