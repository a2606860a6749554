"""Namespace probe: a program started in a mount namespace of its own in which /etc/ld.so.preload is another file.

Set-id programs included: to the runtime linker it is the file, whoever asks. The live file is not touched, and where
there is none, none is made: a read-only overlay of /etc has it (mount_namespaces(7), mount(2), ld.so(8)).
Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping

from memproxy_sol.abi import LD_SO_PRELOAD
from memproxy_sol.probe import Prober

_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x1, 0x1000, 0x4000, 1 << 18


class LinuxProber(Prober):
    """Starts probes on a running Linux system."""

    def trying(self, candidates: Mapping[int, str]) -> tuple[Prober, dict[str, str]]:
        """As `Prober.trying`; all ABIs read one file."""
        return NamespaceProber(next(iter(candidates.values()), None)), {}

    def obstacle(self, candidates: Mapping[int, str]) -> str | None:
        """As `Prober.obstacle`: a namespace is made, and left again."""
        prober = NamespaceProber(next(iter(candidates.values()), None))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            number = errno.EINVAL
            try:
                prober.enter()
                number = 0
            except OSError as error:
                number = error.errno or number
            finally:
                os.write(writer, b"%d" % number)
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            answer = stream.read()
        os.waitpid(child, 0)
        number = int(answer) if answer.isdigit() else errno.EINVAL
        return f"no mount namespace can be made here ({os.strerror(number)})" if number else None


class NamespaceProber(Prober):
    """Starts probes with a file of this machine as /etc/ld.so.preload, or, for None, with an empty one.

    The file has the list's name, in a directory with nothing else, which is laid over /etc where that has no list.
    """

    tries_secure = True

    def __init__(self, candidate: str | None) -> None:
        self._candidate = candidate
        self._libc = ctypes.CDLL(None, use_errno=True)

    def becoming(self, ids: tuple[int, int] | None) -> dict[str, object]:
        """As `Prober.becoming`; the namespace needs root, so that the ids are changed last."""

        def enter() -> None:
            self.enter()
            if ids is not None:
                os.setgroups([])
                os.setgid(ids[1])
                os.setuid(ids[0])

        return {"preexec_fn": enter}

    def enter(self) -> None:
        """Put this process, which is a child that may do nothing else, into the namespace; OSError if it cannot be."""
        libc = self._libc
        _check(libc.unshare(_CLONE_NEWNS))
        _check(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
        if os.path.exists(LD_SO_PRELOAD):
            source = os.devnull if self._candidate is None else self._candidate
            _check(libc.mount(os.fsencode(source), os.fsencode(LD_SO_PRELOAD), None, _MS_BIND, None))
        elif self._candidate is not None:
            options = f"lowerdir={os.path.dirname(self._candidate)}:/etc".encode()
            _check(libc.mount(b"overlay", b"/etc", b"overlay", _MS_RDONLY, options))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
