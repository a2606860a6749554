"""`make hunt [ARGS=...]`: every case of every scenario, shared among the processors.

Writes docs/results/hunt.md and hunt-linux.md.
"""

from __future__ import annotations

import argparse
import collections
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Callable

import pytest

from hunt import cases, linux_cases, own_root
from hunt.calls import DEEDS
from hunt.cases import Hunt, Scenario
from hunt.ground import Ground
from hunt.linux_ground import LinuxGround, ingredients
from memproxy_sol.errors import MemproxyError, report
from tests.host.objects import build_objects

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "docs/results"
HOSTS = ("solaris", "linux")

JUDGEMENT = """
a reboot succeeds; and the next command leaves exactly the state before the change or the one after it, every file
compared by content, owner and mode. Killed after one call is killed before the next: one of the two is rebooted before
the next command, the other after it. The guard of a trial that lives on is ended first, or gone with the reboot.
"""
SOLARIS = f"""
`make hunt`: on the laboratory's running system, both ABIs, the command is killed before and after every call that
alters the file system; or the call fails, alone or with all that follow it (`on`). After each case a process of each
ABI starts, as root and as another user;
{JUDGEMENT.strip()}
"""
LINUX = f"""
`make hunt`: on a small Linux in mount and process namespaces of its own, whose runtime linkers and programs are this
machine's, the command is killed before and after every call that alters the file system; or the call fails, alone or
with all that follow it (`on`). After each case a program of each ABI starts as root, as another user and set-id,
without a word of the runtime linker; what it has loaded of ours is of one generation and complete, and what others have
in `/etc/ld.so.preload`, before and behind ours, is loaded as before (but for the time from a reboot in a trial to the
next command or the check at boot, when nothing is); `verify` as root and as another user judges;
{JUDGEMENT.strip()}
A list of preloads that comes back from a trial is the same inode with the same time.
"""

Found = tuple[str, int, str, str, "str | None"]
"""Scenario, number of calls (of a guard those up to here), deed, case, what is wrong."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make hunt ARGS=...", description=__doc__)
    parser.add_argument("--hosts", default=",".join(HOSTS), help="default: both")
    parser.add_argument("--scenarios", help="by name, with commas (default: all)")
    parser.add_argument("--deeds", default=",".join(DEEDS), help="default: all")
    parser.add_argument("--every", type=int, default=1, help="only every N-th case, for a look")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-page", action="store_true", help="write no page")
    return parser.parse_args()


def on_solaris(job: int, given: argparse.Namespace, place: str, objects: Path) -> list[Found]:
    """The share of one process, on a laboratory."""
    top = Path(place, f"job{job}", "solaris")
    top.parent.mkdir()
    ground = Ground(top, objects, pytest.MonkeyPatch())
    return through(cases.scenarios(ground), ground, job, given)


def on_linux(job: int, given: argparse.Namespace, files: list[tuple[Path, str, int]]) -> list[Found]:
    """The share of one process, in a root of its own."""

    def work() -> list[Found]:
        ground = LinuxGround(pytest.MonkeyPatch())
        return through(linux_cases.scenarios(ground), ground, job, given)

    return [tuple(one) for one in own_root.inside(work, files)]


def through(scenarios: Iterable[Scenario], ground: Ground, job: int, given: argparse.Namespace) -> list[Found]:
    """Every case of a share, judged."""
    sys.stdout.flush()
    ground.keep("new")
    wanted = given.scenarios.split(",") if given.scenarios else None
    found = []
    for scenario in scenarios:
        if wanted is not None and scenario.name not in wanted:
            continue
        hunt = Hunt(ground, scenario)
        share = list(hunt.cases(given.deeds.split(",")))[:: given.every][job :: given.jobs]
        for case in share:
            before = hunt.struck
            problem = hunt.judge(case)
            if hunt.struck == before and not problem:
                continue  # the guard makes fewer calls
            calls = case.number if scenario.guard else len(hunt.calls)
            found.append((scenario.name, calls, case.deed, str(case), problem))
            if problem:
                print(f"{case}: {problem}", flush=True)
        print(f"{scenario.name}: {hunt.struck} cases by process {job}", flush=True)
    return found


def page(host: str, found: list[Found], given: argparse.Namespace, seconds: float) -> str:
    """The dated result for one host."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    ).stdout.strip()
    calls = {name: max(one[1] for one in found if one[0] == name) for name, *_ in found}
    table = collections.Counter((name, deed) for name, _, deed, _, _ in found)
    bad = collections.Counter(name for name, *_, problem in found if problem)
    deeds = given.deeds.split(",")
    lines = [
        "# Brick hunt" + (" on Linux" if host == "linux" else ""),
        "",
        *(LINUX if host == "linux" else SOLARIS).strip().split("\n"),
        "",
        f"{time.strftime('%Y-%m-%d')}, commit {commit}, {platform.system()} {platform.machine()},"
        f" {os.cpu_count()} processors, {seconds / 60:.0f} minutes"
        + (f", every {given.every}th case" if given.every > 1 else "")
        + ".",
        "",
        f"{len(found)} cases, {sum(bad.values())} of them bad.",
        "",
        "| change | calls | " + " | ".join(deeds) + " | bad |",
        "|" + "---|" * (len(deeds) + 3),
        *(
            f"| {name} | {count} | " + " | ".join(str(table[name, deed]) for deed in deeds) + f" | {bad[name]} |"
            for name, count in calls.items()
        ),
    ]
    lines += ["", *(f"* {case}: {problem}" for *_, case, problem in found if problem)]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    os.chdir(CHECKOUT)
    given = arguments()
    if os.geteuid() != 0:
        raise MemproxyError("the files of a laboratory belong to root", hint="try sudo make hunt")
    return max(hunted(host, given) for host in given.hosts.split(","))


def hunted(host: str, given: argparse.Namespace) -> int:
    """Hunt on one kind of host and write its page; 1 if anything is bad."""
    started = time.monotonic()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="memproxy-hunt-", dir=memory) as place:
        objects = Path(place, "objects")
        objects.mkdir()
        if host == "linux":
            files = ingredients(objects)
            shares = spread(on_linux, [(job, given, files) for job in range(given.jobs)])
        else:
            build_objects(objects)
            shares = spread(on_solaris, [(job, given, place, objects) for job in range(given.jobs)])
    order = {name: place for place, name in enumerate(dict.fromkeys(one[0] for share in shares for one in share))}
    found = sorted((one for share in shares for one in share), key=lambda one: (order[one[0]], one[3]))
    bad = sum(1 for one in found if one[4])
    print(f"{host}: {len(found)} cases, {bad} bad")
    if not given.no_page:
        name = "hunt.md" if host == "solaris" else "hunt-linux.md"
        (RESULTS / name).write_text(page(host, found, given, time.monotonic() - started))
    return 1 if bad else 0


def spread(work: Callable[..., list[Found]], shares: list[tuple[Any, ...]]) -> list[list[Found]]:
    """What each share of the work found, each by a process."""
    with get_context("fork").Pool(len(shares), own_root.die_with_parent) as pool:
        return pool.starmap(work, shares)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MemproxyError as error:
        sys.exit(report(error))
