"""`make hunt [ARGS=...]`: every case of every scenario, shared among the processors; writes docs/results/hunt.md."""

from __future__ import annotations

import argparse
import collections
import os
import platform
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from hunt.calls import DEEDS
from hunt.cases import Hunt, scenarios
from hunt.ground import Ground
from memproxy_sol.errors import MemproxyError, report
from tests.host.objects import build_objects

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs/results/hunt.md"

ABOUT = """
`make hunt`: on the laboratory's running system, both ABIs, the command is killed before and after every call that
alters the file system, or the call fails. After each case a process of each ABI starts, as root and as another user;
a reboot succeeds; and the next command leaves exactly the state before the change or the one after it, every file
compared by content, owner and mode. Killed after one call is killed before the next: one of the two is rebooted before
the next command, the other after it. The guard of a trial that lives on is ended first, or gone with the reboot.
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make hunt ARGS=...", description=__doc__)
    parser.add_argument("--scenarios", help="by name, with commas (default: all)")
    parser.add_argument("--deeds", default=",".join(DEEDS), help="default: all")
    parser.add_argument("--every", type=int, default=1, help="only every N-th case, for a look")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-page", action="store_true", help="write no page")
    return parser.parse_args()


def work(job: int, given: argparse.Namespace, place: str, objects: Path) -> list[tuple[str, int, str, str, str | None]]:
    """The share of one process: scenario, number of calls, deed, case, what is wrong."""
    sys.stdout.flush()
    top = Path(place, f"job{job}", "solaris")
    top.parent.mkdir()
    ground = Ground(top, objects, pytest.MonkeyPatch())
    ground.keep("new")
    wanted = given.scenarios.split(",") if given.scenarios else None
    found = []
    for scenario in scenarios(ground):
        if wanted is not None and scenario.name not in wanted:
            continue
        hunt = Hunt(ground, scenario)
        cases = list(hunt.cases(given.deeds.split(",")))[:: given.every][job :: given.jobs]
        for case in cases:
            before = hunt.struck
            problem = hunt.judge(case)
            if hunt.struck == before and not problem:
                continue  # the guard makes fewer calls
            found.append((scenario.name, len(hunt.calls), case.deed, str(case), problem))
            if problem:
                print(f"{case}: {problem}", flush=True)
        print(f"{scenario.name}: {len(cases)} cases by process {job}", flush=True)
    return found


def page(found: list[tuple[str, int, str, str, str | None]], given: argparse.Namespace, seconds: float) -> str:
    """The dated result."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    ).stdout.strip()
    calls = {name: count for name, count, *_ in found}
    table = collections.Counter((name, deed) for name, _, deed, _, _ in found)
    bad = collections.Counter(name for name, *_, problem in found if problem)
    deeds = given.deeds.split(",")
    lines = [
        "# Brick hunt",
        "",
        *ABOUT.strip().split("\n"),
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
    started = time.monotonic()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="memproxy-hunt-", dir=memory) as place:
        objects = Path(place, "objects")
        objects.mkdir()
        build_objects(objects)
        with get_context("fork").Pool(given.jobs) as pool:
            shares = pool.starmap(work, [(job, given, place, objects) for job in range(given.jobs)])
    found = sorted((one for share in shares for one in share), key=lambda one: one[3])
    order = {name: place for place, name in enumerate(dict.fromkeys(one[0] for share in shares for one in share))}
    found.sort(key=lambda one: order[one[0]])
    bad = sum(1 for one in found if one[4])
    print(f"{len(found)} cases, {bad} bad")
    if not given.no_page:
        PAGE.write_text(page(found, given, time.monotonic() - started))
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MemproxyError as error:
        sys.exit(report(error))
