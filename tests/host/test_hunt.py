"""A fixed sample of the brick hunt, and that it hunts at every call and finds what there is to find."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hunt.calls import CHANGING, Calls
from hunt.cases import Hunt, scenarios
from hunt.ground import Ground
from memproxy_sol.cli import main
from tests.images import Image

NAMES = (
    *("install", "upgrade", "uninstall", "purge", "rollback", "install --try", "a probe fails"),
    *("guard: upgrade", "guard: a probe fails"),
    *("stage for a first boot", "first boot", "first boot: upgrade", "first boot: a program fails"),
)
EVERY = 79
"""One of so many cases, a prime: all deeds and all parts of a change are met."""
OF_A_GUARD = 23
"""The same for a guard's, which are few, and of which some come after its end."""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, objects: Path) -> Iterator[Ground]:
    """A laboratory in memory, if there is room for one; while it is there `/` is its root."""
    with pytest.MonkeyPatch.context() as patch:
        made = Ground(tmp_path_factory.mktemp("hunt") / "solaris", objects, patch)
        made.keep("new")
        yield made
        made.end_guards()


@pytest.mark.parametrize("name", NAMES)
def test_no_brick_and_no_state_in_between(ground: Ground, name: str) -> None:
    scenario = next(one for one in scenarios(ground) if one.name == name)
    hunt = Hunt(ground, scenario)
    sample = list(hunt.cases())[:: OF_A_GUARD if scenario.guard else EVERY]
    problems = {str(case): hunt.judge(case) for case in sample}
    assert hunt.struck > 1
    assert {case: problem for case, problem in problems.items() if problem} == {}


SYSTEM_CALLS = {
    "rename": "rename",
    "replace": "rename",
    "unlink": "unlink",
    "remove": "unlink",
    "unlinkat": "unlink",
    "utime": "utimensat",
    "pwrite": "pwrite64",
}
"""What the functions of os that are not named after it call."""


def test_the_calls_that_are_hunted_are_all_that_the_kernel_sees(image: Image, tmp_path: Path) -> None:
    """An image has no commands of the host, whose calls would be among them."""
    if shutil.which("strace") is None:
        pytest.fail("strace is missing: install strace, or run make setup", pytrace=False)
    arguments = ["install", "--root", str(image.path), "--libraries", str(image.objects)]
    arguments += [f"--allocator={image.objects / name}" for name in ("liballoc.so", "64/liballoc.so")]
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", image.path, copy], check=True)
    log = tmp_path / "strace"
    names = sorted({SYSTEM_CALLS.get(name, name) for name in CHANGING} - {"mknod", "mkfifo"})
    names += ["openat", "creat", "renameat", "renameat2", "unlinkat", "mkdirat", "linkat", "symlinkat", "fchmodat"]
    names += ["fchownat", "pwritev", "writev", "copy_file_range", "sendfile", "fallocate", "fdatasync", "setxattr"]
    subprocess.run(
        [
            *("strace", "-f", "-y", "-qq", "-o", log, "-e", f"trace={','.join(sorted(set(names)))}"),
            *(sys.executable, "-m", "memproxy_sol", *arguments),
        ],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        check=True,
    )
    seen: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        name = line.split(None, 1)[1].partition("(")[0]
        if str(image.path) in line and (name != "openat" or re.search(r"O_CREAT|O_TRUNC", line)):
            seen["open" if name == "openat" else name] += 1
    shutil.rmtree(image.path)
    subprocess.run(["cp", "-a", copy, image.path], check=True)
    calls = Calls(concerns=lambda argument: _is_below(image.path, argument))
    with calls.watching():
        assert main(arguments) == 0
    assert Counter(SYSTEM_CALLS.get(name, name) for name in calls.seen) == seen
    assert sum(seen.values()) > 50


def _is_below(top: Path, argument: object) -> bool:
    name = os.readlink(f"/proc/self/fd/{argument}") if isinstance(argument, int) else os.fspath(str(argument))
    return name.startswith(str(top))


def test_nothing_else_is_called_that_alters_a_file() -> None:
    """Whatever of os and shutil the package names is hunted, or alters nothing."""
    package = Path(__file__).parents[2] / "memproxy_sol"
    named = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in ("os", "shutil")
            ):
                named.add(node.attr)
    altering = {
        *("truncate", "ftruncate", "mknod", "mkfifo", "lchown", "chroot", "writev", "pwritev", "copy_file_range"),
        *(
            "sendfile",
            "posix_fallocate",
            "setxattr",
            "removexattr",
            "fdatasync",
            "sync",
            "renames",
            "lchmod",
            "chflags",
        ),
        *("link", "symlink", "removedirs", "makedirs", "mkdir", "rmdir", "unlink", "remove", "rename", "replace"),
    }
    # These call the functions above, by their names in os.
    made_of_others = {"makedirs", "removedirs", "renames"}
    assert named & altering <= set(CHANGING) | made_of_others
