"""Signals: HUP, INT, QUIT and TERM end a change only where what is half done has been undone or is whole.

`caught` makes them an exception, Interrupted; inside of `deferred` they only wait, for `check` or for its end. So a
step, and the undo of a change, is never cut in two by a signal, however many come. A signal that was ignored when we
were started (nohup, a background job of sh) stays ignored.

Standard library only: journal.py is imported at boot.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from memproxy_sol.errors import Interrupted

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)

_depth = 0
_pending: int | None = None
_is_catching = False


@contextlib.contextmanager
def caught() -> Iterator[None]:
    """Inside, each of SIGNALS raises Interrupted; one inside another adds nothing. Only the main thread can do it."""
    global _is_catching, _pending
    if _is_catching or threading.current_thread() is not threading.main_thread():
        yield
        return
    former: dict[signal.Signals, Any] = {}
    _is_catching, _pending = True, None
    try:
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN and handler is not None:
                former[number] = handler
                signal.signal(number, _handle)
        yield
        check()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        _is_catching, _pending = False, None


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal waits; at the end, unless something else went wrong, it raises Interrupted."""
    global _depth
    _depth += 1
    try:
        yield
    except BaseException:
        _depth -= 1
        raise
    _depth -= 1
    if _depth == 0:
        check()


def check() -> None:
    """Raise Interrupted if a signal has come."""
    if _pending is not None:
        raise Interrupted(_pending)


def _handle(number: int, frame: object) -> None:
    global _pending
    _pending = number if _pending is None else _pending
    if _depth == 0:
        raise Interrupted(number)
