"""`make sequences [ARGS=...]`: random sequences, shared among the processors; writes docs/results/sequences.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import pytest

from hunt.ground import Ground
from hunt.sequences import KINDS, Played, Player, draw
from memproxy_sol.errors import MemproxyError, report
from tests.host.objects import build_objects

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs/results/sequences.md"

ABOUT = """
`make sequences`: sequences of commands of ours, of what administrators do beside them, of reboots, and of commands and
guards that are killed or meet an error at some call, drawn by a seed and run in the laboratory. After each command of
ours and each reboot, and at the end of each sequence: nothing that others have put there is lost or disabled; what a
live configuration names of ours is there and is what was installed; a process of each ABI starts and a boot succeeds;
and uninstall and `uninstall --purge` end in what was there before, with what others have changed since.
"""
MEANING = {
    "plain": "running system, policy `service = false`",
    "service": "running system, SMF service delivered and started at boots",
    "image": "`--root`: an image, which then boots; no crle, SMF, trial or guard of ours",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make sequences ARGS=...", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10000, help="default: 10000")
    parser.add_argument("--shares", default="plain=5,service=1,image=4", help="of ten sequences (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, help="begin no sequence later than this; the page says how many ran")
    parser.add_argument("--replay", metavar="KIND:JSON", help="play one sequence, as a violation prints it")
    parser.add_argument("--no-page", action="store_true", help="write no page")
    return parser.parse_args()


def kinds(shares: str) -> list[str]:
    """The kinds in the order in which they take turns."""
    parts = [part.partition("=") for part in shares.split(",")]
    found = [name for name, _, share in parts for _ in range(int(share))]
    if not found or any(name not in KINDS for name in found):
        raise MemproxyError(f"{shares!r} is no list of shares", hint=f"the kinds are {', '.join(KINDS)}")
    return found


def ground_below(place: Path, objects: Path) -> Ground:
    """A new laboratory in a directory of its own."""
    place.mkdir()
    ground = Ground(place / "solaris", objects, pytest.MonkeyPatch())
    ground.keep("new")
    return ground


def work(
    job: int, given: argparse.Namespace, place: str, objects: Path, until: float
) -> tuple[list[Played], Counter[str]]:
    """The share of one process: the violations, and how many of which operation and kind."""
    player = Player(ground_below(Path(place, f"job{job}"), objects))
    turns = kinds(given.shares)
    bad: list[Played] = []
    done: Counter[str] = Counter()
    for number in range(job, given.count, given.jobs):
        if time.monotonic() > until:
            break
        kind = turns[number // given.jobs % len(turns)]
        played = player.play(kind, draw(given.seed, number, kind))
        done += played.done
        done[f"kind {kind}"] += 1
        done["operations"] += len(played.operations)
        if number // given.jobs % 250 == 249:
            print(f"process {job}: {number // given.jobs + 1} sequences", flush=True)
        if played.violation is not None:
            bad.append(player.shrink(played))
            print(told(number, bad[-1]), flush=True)
    return bad, done


def told(number: int, played: Played) -> str:
    """A violation, as it can be played again."""
    assert played.violation is not None
    return f"{number}: --replay '{played.kind}:{json.dumps(played.operations)}' {played.violation.text[:600]}"


def page(bad: list[Played], done: Counter[str], given: argparse.Namespace, seconds: float) -> str:
    """The dated result."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    ).stdout.strip()
    ran = {kind: done[f"kind {kind}"] for kind in KINDS}
    counted = {name: count for name, count in done.items() if not name.startswith("kind ") and name != "operations"}
    lines = [
        "# Random sequences",
        "",
        *ABOUT.strip().split("\n"),
        "",
        f"{time.strftime('%Y-%m-%d')}, commit {commit}, seed {given.seed}, {platform.system()} {platform.machine()},"
        f" {given.jobs} processes, {seconds / 60:.0f} minutes.",
        "",
        f"{sum(ran.values())} sequences of {given.count} asked for, with {done['operations']} operations before their"
        f" ends; {len(bad)} violations.",
        "",
        "| kind | sequences | violations |",
        "|---|---|---|",
        *(
            f"| {kind}: {MEANING[kind]} | {count} | {sum(1 for one in bad if one.kind == kind)} |"
            for kind, count in ran.items()
        ),
        "",
        "What was carried out, the ends included; of commands of ours with their exit status (1: refused or failed, 3:",
        "differences), or `killed`; `struck`: ours or its guard met an error or lost its guard, and told so:",
        "",
        "| operation | times |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in sorted(counted.items())),
    ]
    for one in bad:
        assert one.violation is not None
        lines += ["", f"* `{one.kind}:{json.dumps(one.operations)}`: {one.violation.text[:600]}"]
    return "\n".join(lines).rstrip() + "\n"


def replay(player: Player, text: str) -> int:
    """One sequence again; what it did, and the violation."""
    kind, _, operations = text.partition(":")
    played = player.play(kind, [tuple(one) for one in json.loads(operations)])
    print(dict(played.done))
    print(played.violation or "no violation")
    return 1 if played.violation else 0


def main() -> int:
    os.chdir(CHECKOUT)
    given = arguments()
    if os.geteuid() != 0:
        raise MemproxyError("the files of a laboratory belong to root", hint="try sudo make sequences")
    started = time.monotonic()
    until = started + given.minutes * 60 if given.minutes else float("inf")
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="memproxy-sequences-", dir=memory) as place:
        objects = Path(place, "objects")
        objects.mkdir()
        build_objects(objects)
        if given.replay:
            return replay(Player(ground_below(Path(place, "replay"), objects)), given.replay)
        with get_context("fork").Pool(given.jobs) as pool:
            jobs = [(job, given, place, objects, until) for job in range(given.jobs)]
            shares = pool.starmap(work, jobs, chunksize=1)
    bad = [one for share, _ in shares for one in share]
    done = sum((counted for _, counted in shares), Counter())
    if not given.no_page:
        PAGE.write_text(page(bad, done, given, time.monotonic() - started))
    print(f"{sum(done[f'kind {kind}'] for kind in KINDS)} sequences, {len(bad)} violations")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MemproxyError as error:
        sys.exit(report(error))
