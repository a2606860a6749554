"""A guard around every run: no test may change this machine's own list of preloads, nor anything of memproxy on it."""

from __future__ import annotations

import os
import stat

import pytest

OURS = (
    "/etc/ld.so.preload",
    "/etc/ld.so.preload.before-memproxy",
    "/etc/memproxy.conf",
    "/etc/memproxy.toml",
    "/etc/memproxy-rescue.txt",
    "/etc/systemd/system/memproxy.service",
    "/var/opt/memproxy",
    "/usr/local/lib/memproxy",
)
"""What a live change writes to. A directory counts with all below it."""

State = dict[str, tuple[int, ...]]


def state_of_this_machine(paths: tuple[str, ...] = OURS) -> State:
    """Inode, mode, size and times of everything that a live change would touch."""
    found: State = {}
    for top in paths:
        names = [top, *(os.path.join(where, name) for where, ds, fs in os.walk(top) for name in (*ds, *fs))]
        for name in names:
            try:
                status = os.lstat(name)
            except FileNotFoundError:
                continue
            times = () if stat.S_ISDIR(status.st_mode) and name != top else (status.st_mtime_ns,)
            found[name] = (status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size, *times)
    return found


def changed(before: State, after: State) -> list[str]:
    """The paths that differ."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


_BEFORE = pytest.StashKey[State]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remember this machine as it is."""
    session.config.stash[_BEFORE] = state_of_this_machine()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if it changed this machine."""
    touched = changed(session.config.stash[_BEFORE], state_of_this_machine())
    if touched:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"ERROR: the tests changed this machine: {', '.join(touched)}", red=True)
