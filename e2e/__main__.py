"""`make e2e [ARGS=...]`: runs what is left of the table, uninstalls, and writes docs/results/e2e.md."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path

from e2e import page
from e2e.image import ALLOCATORS, PLACE, system
from e2e.system import Host
from e2e.table import Table, image_of, table_cells
from e2e.workloads import workloads
from memproxy_sol import build, errors
from memproxy_sol.errors import MemproxyError

CHECKOUT = Path(__file__).resolve().parents[1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make e2e ARGS=...", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter workloads, where there is a shorter one")
    parser.add_argument("--allocators", default=",".join(ALLOCATORS), help=f"of {','.join(ALLOCATORS)} (default: all)")
    parser.add_argument("--workloads", help=f"of {','.join(workloads())} (default: all)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no workload after so many minutes")
    parser.add_argument("--report", action="store_true", help="run nothing, only write the page")
    return parser.parse_args()


def main() -> int:
    os.chdir(CHECKOUT)
    given = arguments()
    if os.geteuid() != 0:
        raise MemproxyError("a system of its own needs root", hint="try sudo make e2e")
    known = workloads("quick" if given.quick else "full")
    allocators = chosen(given.allocators, ALLOCATORS)
    wanted = [known[name] for name in chosen(given.workloads or ",".join(known), known)]
    for name in [name for name in os.environ if name.startswith(("LD_", "MEMPROXY_", "MAKE", "MFLAGS"))]:
        del os.environ[name]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(errors.EXIT_INTERRUPTED))
    started = time.monotonic()
    PLACE.mkdir(parents=True, exist_ok=True)
    made = system()
    libraries = build.cached("native", [64, 32])
    host = Host(made, placed(libraries))
    table = Table(host, libraries)
    bad = 0
    todo = table_cells(image_of(made), allocators, wanted)
    for number, cell in enumerate(todo, 1):
        head = f"[{number}/{len(todo)}] {cell.workload.name} {cell.allocator} {cell.route}"
        if not given.report:
            for sentence in table.finish(cell):
                if (time.monotonic() - started) / 60 > given.minutes:
                    break
                print(f"{head}: {sentence}", flush=True)
        verdict = table.verdict(cell)
        if verdict is None:
            continue
        bad += verdict.word in ("DIFFERS", "NO PROOF")
        print(f"{head}: {verdict.word} ({(time.monotonic() - started) / 60:.1f} min)", flush=True)
        for difference in verdict.differences[:10]:
            print(f"    {difference}", flush=True)
    for allocator in allocators:
        if not given.report:
            left = host.uninstalled(allocator)
            bad += bool(left)
            print(f"uninstall of {allocator}: {'; '.join(left) or 'byte for byte as before'}", flush=True)
    page.write(Path("docs/results/e2e.md"), table, host, made)
    return 1 if bad else 0


def chosen(words: str, known: Collection[str]) -> list[str]:
    """The words of a list that is separated by commas, each of which has to be known."""
    names = [word for word in words.split(",") if word]
    for name in names:
        if name not in known:
            raise errors.UsageError(f"unknown name {name!r}", hint=f"it is one of {', '.join(known)}")
    return names


def placed(libraries: dict[int, Path]) -> Path:
    """The libraries in a directory as `memproxy-sol build` leaves it."""
    place = PLACE / "libraries"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for bits, path in libraries.items():
        build.place(path, place, bits)
    return place


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MemproxyError as error:
        sys.exit(errors.report(error))
    except KeyboardInterrupt:
        print("e2e: ended; the next run goes on from here", file=sys.stderr)
        sys.exit(errors.EXIT_INTERRUPTED)
