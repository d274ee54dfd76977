"""``python -m jobplatform.cli.serving.part PARENT MODULE [ARGUMENT ...]``: a module that does not outlive its parent.

A stack that is stopped stops its parts. This is for one that is killed and cannot: the kernel then sends SIGTERM
here. Only Linux knows how to.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Bind this process to its parent and become the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        # It may have gone before the kernel was asked.
        if os.getppid() != parent:
            raise SystemExit(1)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
