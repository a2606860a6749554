"""Usual signals: HUP, INT, QUIT and TERM as in a shell at a terminal, however the tests were started.

What was started in the background or under nohup has some of them ignored, and so have all that it starts.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from memproxy_sol.signals import SIGNALS


@contextlib.contextmanager
def usual_signals() -> Iterator[None]:
    """Inside, none of them is ignored."""
    ignored = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
