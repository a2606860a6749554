"""The directory in which results that can be made again are kept: `$XDG_CACHE_HOME/memproxy-sol`."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import tempfile
from pathlib import Path

from memproxy_sol.errors import BuildError

_KEPT_LOGS = 20


def root() -> Path:
    """The cache directory, made if need be.

    It is below `$XDG_CACHE_HOME`, else `$HOME/.cache`, else `.cache` of this user's home directory; the first whose
    owner is this user. What root installs must not come out of a directory that someone else can write to, and sudo may
    leave HOME as it was. Raises BuildError if there is none.
    """
    tried = []
    for base in _bases():
        directory = base / "memproxy-sol"
        tried.append(str(directory))
        try:
            if _nearest(base).stat().st_uid != os.geteuid():
                continue
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = directory.stat()
        except OSError:
            continue
        if status.st_uid == os.geteuid() and not status.st_mode & 0o022 and os.access(directory, os.W_OK):
            return directory
    raise BuildError(
        f"no cache directory that belongs to this user and no one else can write to (tried {', '.join(tried)})",
        hint="set XDG_CACHE_HOME to a directory of your own",
    )


def _bases() -> list[Path]:
    bases = []
    if os.path.isabs(os.environ.get("XDG_CACHE_HOME", "")):
        bases.append(Path(os.environ["XDG_CACHE_HOME"]))
    if os.path.isabs(os.environ.get("HOME", "")):
        bases.append(Path(os.environ["HOME"], ".cache"))
    with contextlib.suppress(KeyError):
        bases.append(Path(pwd.getpwuid(os.geteuid()).pw_dir, ".cache"))
    return bases


def _nearest(path: Path) -> Path:
    """The nearest directory above or at `path` that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def keep_log(log: Path, name: str) -> Path:
    """Copy `log` to where it survives, under `name` and a number; return where that is."""
    try:
        directory = root() / "log"
        directory.mkdir(exist_ok=True)
        for old in sorted(directory.glob("*.log"), key=os.path.getmtime)[: -_KEPT_LOGS or None]:
            old.unlink()
    except (BuildError, OSError):
        directory = Path(tempfile.gettempdir())
    descriptor, kept = tempfile.mkstemp(prefix=f"{name}-", suffix=".log", dir=directory)
    with open(descriptor, "wb") as copy, log.open("rb") as original:
        shutil.copyfileobj(original, copy)
    return Path(kept)
