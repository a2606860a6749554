"""Workers: a bounded number of processes that do the same to many things, and end with us, however we end.

Each worker is forked, has one pipe, and does one batch after the other. One that dies (a file that eats all memory)
costs the thing that it was at: the rest of its batch goes to another. A signal that ends us ends them; if we are
killed, the end of their pipes does.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from memproxy_sol import signals

if TYPE_CHECKING:  # no command but the one that uses it waits for the import
    from multiprocessing.connection import Connection

T = TypeVar("T")
R = TypeVar("R")

MOST = 8
"""Processes at most: a disk has no use for more."""

BATCH = 64


def usable() -> int:
    """How many processes are worth having here."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Solaris
        count = os.cpu_count() or 1
    return max(1, min(count, MOST))


class Lost:
    """What stands in the place of a result: the worker died while it was at this thing."""


class _Worker(Generic[T]):
    def __init__(self, do: Callable[[T], Any], others: Sequence[Connection[Any, Any]]) -> None:
        import multiprocessing

        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.batch: list[T] = []
        self.process = context.Process(target=_serve, args=(do, theirs, [self.pipe, *others]), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, batch: list[T]) -> None:
        self.batch = batch
        with contextlib.suppress(OSError):  # it is dead; its pipe will say so
            self.pipe.send(batch)

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


def each(
    do: Callable[[T], R], things: Sequence[T], count: int | None = None
) -> Generator[tuple[T, R | Lost], None, None]:
    """Each thing with what `do` made of it, in no particular order; `do` must not raise.

    To be closed where it is not used up (contextlib.closing), so that the workers end.
    """
    from multiprocessing.connection import wait

    batches = [list(things[at : at + BATCH]) for at in range(0, len(things), BATCH)]
    workers: list[_Worker[T]] = []
    try:
        for _ in range(min(count or usable(), len(batches))):
            with signals.deferred():  # a worker that was started is known
                workers.append(_Worker(do, [other.pipe for other in workers]))
            workers[-1].give(batches.pop())
        while workers:
            for pipe in wait([worker.pipe for worker in workers]):
                worker = next(one for one in workers if one.pipe is pipe)
                try:
                    result = worker.pipe.recv()
                except (EOFError, OSError):
                    yield worker.batch.pop(0), Lost()
                    rest = worker.batch
                    workers.remove(worker)
                    worker.end()
                    if rest:
                        batches.append(rest)
                    if batches:
                        with signals.deferred():
                            workers.append(_Worker(do, [other.pipe for other in workers]))
                        workers[-1].give(batches.pop())
                    continue
                yield worker.batch.pop(0), result
                if not worker.batch:
                    if batches:
                        worker.give(batches.pop())
                    else:
                        workers.remove(worker)
                        worker.end()
    finally:
        with signals.deferred():
            for worker in workers:
                worker.end()


def _serve(do: Callable[[Any], Any], pipe: Connection[Any, Any], others: Sequence[Connection[Any, Any]]) -> None:
    for number in signals.SIGNALS:  # Ctrl-C reaches the whole group; who started us ends us
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    for other in others:
        other.close()
    with contextlib.suppress(EOFError, OSError):
        while True:
            for thing in pipe.recv():
                pipe.send(do(thing))
