"""``python -m jobplatform.cli``: the same as ``jobplatform``, for the interpreter at hand."""

from jobplatform.cli.root import main

main(prog_name="jobplatform")
