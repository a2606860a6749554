"""Counts the instructions of a command with valgrind's callgrind, and says in which object and function they are.

Callgrind does not replace malloc, so what is preloaded is what runs. Counts do not depend on the machine's load.
Source: the callgrind format specification, in valgrind's manual.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from memproxy_sol.errors import MemproxyError


@dataclass(frozen=True)
class Profile:
    """The instructions of a command and of all processes that it started."""

    objects: Counter[str] = field(default_factory=Counter)
    """Instructions by the base name of the object whose code they are."""
    functions: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The same by object and function."""
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each function was entered, by object and function."""

    @property
    def total(self) -> int:
        return sum(self.objects.values())

    def minus(self, other: Profile) -> Profile:
        """What this profile has more than `other`; where it has less, negative."""
        return Profile(
            _difference(self.objects, other.objects),
            _difference(self.functions, other.functions),
            _difference(self.calls, other.calls),
        )


_Key = TypeVar("_Key")


def _difference(mine: Counter[_Key], theirs: Counter[_Key]) -> Counter[_Key]:
    found = Counter(mine)
    found.subtract(theirs)
    return found


def available() -> bool:
    return shutil.which("valgrind") is not None


def count(command: Sequence[object], environment: Mapping[str, str]) -> Profile:
    """Run `command` under callgrind; raises MemproxyError if it fails, or if valgrind is not here."""
    if not available():
        raise MemproxyError("instructions cannot be counted without valgrind", hint="apt-get install valgrind")
    with tempfile.TemporaryDirectory() as scratch:
        work, out = Path(scratch, "work"), Path(scratch, "out")
        work.mkdir()
        out.mkdir()
        words = ["valgrind", "--tool=callgrind", "--quiet", "--trace-children=yes", "--vgdb=no"]
        words += [f"--callgrind-out-file={out}/%p", "--compress-strings=no", "--compress-pos=no"]
        words += [str(word) for word in command]
        done = subprocess.run(words, cwd=work, env=dict(environment), capture_output=True, text=True, check=False)
        files = list(out.iterdir())
        if done.returncode != 0 or not files:
            raise MemproxyError(f"ended with {done.returncode}: {done.stderr[-1000:]}", where=" ".join(words))
        profile = Profile()
        for file in files:
            _read(file, profile)
        return profile


def count_all(runs: Iterable[tuple[Sequence[object], Mapping[str, str]]]) -> list[Profile]:
    """`count` for each command and environment, as many at a time as there are processors: counts do not mind."""
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        return list(workers.map(lambda run: count(*run), runs))


_COST = re.compile(r"\d+ (\d+)$")


def _read(file: Path, profile: Profile) -> None:
    """Add one process's file to `profile`. A line of numbers after `calls=` is the callee's, and counted there."""
    here, function, called_object = "", "", ""
    callee = ""
    inclusive = False
    declared = None
    own = 0
    with file.open(errors="replace") as lines:
        for line in lines:
            if line[:1].isdigit():
                if inclusive:
                    inclusive = False
                    continue
                match = _COST.match(line)
                if match:
                    cost = int(match.group(1))
                    own += cost
                    profile.objects[here] += cost
                    profile.functions[here, function] += cost
                continue
            word, _, value = line.rstrip("\n").partition("=")
            if word == "ob":
                here = Path(value).name
            elif word == "fn":
                function = value
                called_object = here
            elif word == "cob":
                called_object = Path(value).name
            elif word == "cfn":
                callee = value
            elif word == "calls":
                profile.calls[called_object or here, callee] += int(value.split()[0])
                called_object = here
                inclusive = True
            elif line.startswith(("summary:", "totals:")):
                declared = int(line.split()[1])
    if declared is not None and declared != own:
        raise MemproxyError(f"the costs add up to {own}, not to {declared}", where=str(file))
