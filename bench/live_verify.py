"""`python -m bench.live_verify IMAGE`: `memproxy-sol verify`, IMAGE being the running system and the processes Linux'.

A Solaris that runs is not at hand: files and judgement are those of a Solaris host, each process is read by the reader
for this machine's /proc (process_linux.py), whose part process_solaris.py has on Solaris. No command is asked.
"""

from __future__ import annotations

import sys
from typing import Any

from memproxy_sol import verify_live
from memproxy_sol.cli import main
from memproxy_sol.root import Root


def live(image: str) -> None:
    """Put the image in the place of the running system."""
    original = Root.__init__

    def initialise(self: Root, path: str, live: bool | None = None) -> None:
        original(self, image if path == "/" else path, True if path == "/" and live is None else live)

    Root.__init__ = initialise  # type: ignore[method-assign]
    judge = verify_live.verify

    def verify(root: Root, **options: Any) -> verify_live.LiveReport:
        return judge(root, **{**options, "shell": None, "proc": "/proc", "kernel": "Linux"})

    verify_live.verify = verify


if __name__ == "__main__":
    live(sys.argv[1])
    sys.exit(main(["verify", *sys.argv[2:]]))
