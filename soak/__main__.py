"""`make soak [ARGS=...]`: runs what is left of the matrix and writes docs/results/soak.md."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from memproxy_sol import build, errors
from memproxy_sol.abi import ABIS
from memproxy_sol.errors import MemproxyError
from soak import page
from soak.image import ALLOCATORS, ARCHITECTURES, PLACE, image
from soak.matrix import ROUTES, Matrix, cells
from soak.sources import SOURCES
from soak.workloads import LENGTHS, workloads

CHECKOUT = Path(__file__).resolve().parents[1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak ARGS=...", description=__doc__)
    parser.add_argument("--length", choices=LENGTHS, default="full", help="of each run (default: full)")
    parser.add_argument("--bits", default="64,32", help="ABIs (default: 64,32)")
    parser.add_argument("--allocators", default=",".join(ALLOCATORS), help="default: all")
    parser.add_argument("--routes", default=",".join(ROUTES), help="default: both")
    parser.add_argument("--workloads", default=",".join(workloads("full")), help="default: all")
    parser.add_argument(
        "--libraries",
        help="of a directory laid out as a generation, its file `commit` says of which; instead of building",
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so many minutes")
    parser.add_argument("--report", action="store_true", help="run nothing, only write the page")
    return parser.parse_args()


def main() -> int:
    os.chdir(CHECKOUT)
    given = arguments()
    if os.geteuid() != 0:
        raise MemproxyError("a chroot with a preload list of its own needs root", hint="try sudo make soak")
    for name in [name for name in os.environ if name.startswith(("LD_", "MEMPROXY_", "MAKE", "MFLAGS"))]:
        del os.environ[name]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(errors.EXIT_INTERRUPTED))
    started = time.monotonic()
    PLACE.mkdir(parents=True, exist_ok=True)
    bits = sorted(ARCHITECTURES, reverse=True)  # the page shows all, whatever is run
    run_bits = {int(word) for word in given.bits.split(",")}
    if given.libraries:
        libraries = {width: Path(given.libraries + ABIS[width].subdirectory, build.SONAME) for width in bits}
        commit = Path(given.libraries, "commit").read_text().strip()
    else:
        libraries = build.cached("native", bits)
        commit = page.commit("native")
    images = [image(width, SOURCES) for width in bits]
    matrix = Matrix(libraries)
    wanted = [workloads(given.length)[name] for name in given.workloads.split(",")]
    chosen = [one for one in images if one.bits in run_bits]
    todo = cells(chosen, given.allocators.split(","), given.routes.split(","), wanted)
    bad = 0
    for number, cell in enumerate(todo, 1):
        head = f"[{number}/{len(todo)}] {cell.workload.name} {cell.image.bits} {cell.allocator} {cell.route}"
        if not given.report:
            for sentence in matrix.finish(cell):
                if (time.monotonic() - started) / 60 > given.minutes:
                    break
                print(f"{head}: {sentence}", flush=True)
        verdict = matrix.verdict(cell)
        if verdict is None:
            continue
        bad += verdict.word in ("DIFFERS", "NO PROOF")
        print(f"{head}: {verdict.word} ({(time.monotonic() - started) / 60:.1f} min)", flush=True)
        for difference in verdict.differences[:10]:
            print(f"    {difference}", flush=True)
    page.write(Path("docs/results/soak.md"), matrix, images, commit)
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MemproxyError as error:
        sys.exit(errors.report(error))
