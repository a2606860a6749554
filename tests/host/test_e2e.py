"""memproxy-sol installed globally on this machine's own system, in a namespace: its programs on both routes.

A fixed sample of what `make e2e` runs on whole systems with every allocator. See whole_system.py for how.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memproxy_sol import build
from tests import needs
from tests.host import private_preload, whole_system

PRELOAD = Path("/etc/ld.so.preload")
HELLO = """#include <stdio.h>
#include <stdlib.h>
int main(void) {
  char *text = malloc(30000);
  if (text == NULL || puts("ready") < 0 || fflush(stdout) != 0) return 9;
  if (fgets(text, 30000, stdin) == NULL) return 8;
  printf("%d %s", (int)(8 * sizeof text), text);
  free(text);
  return 3;
}
"""
CXX = ("-Wl,--no-as-needed", "-lstdc++", "-ldl")
"""So that there is an operator new."""
NAMES = ("hello64", "hello32", "perl", "sort", "mount", "su", "dash", "served64", "served32")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    obstacle = private_preload.obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    if PRELOAD.exists():
        pytest.skip(f"this machine has an {PRELOAD} of its own")
    place = tmp_path_factory.mktemp("whole")
    libraries = place / "libraries"
    libraries.mkdir()
    for bits, library in build.cached("native", [64, 32]).items():
        build.place(library, libraries, bits)
    source = place / "hello.c"
    source.write_text(HELLO)
    served = build.resources.native_sources() / "served.c"
    for bits in (64, 32):
        needs.compile_program(source, bits, place / f"hello{bits}")
        needs.compile_program(Path(served), bits, place / f"served{bits}", "-w", *CXX)
    for program in ("perl", "su", "mount", "chage"):
        if shutil.which(program) is None:
            needs.missing(program, program)
    nobody = whole_system.NOBODY
    hello = "cd /mnt && for b in 64 32; do gcc -m$b -O2 hello.c -o h$b && echo in | ./h$b; echo $?; done"
    return whole_system.run(
        {
            "files": {path.name: str(path) for path in place.iterdir() if path.is_file()},
            "tool": [sys.executable, "-m", "memproxy_sol"],
            "libraries": str(libraries),
            "allocators": [needs.allocator("mimalloc", bits) for bits in (64, 32)],
            "excluded": [*NAMES, os.path.basename(os.path.realpath("/bin/sh")), "cc1"],
            "programs": {
                "shell": (
                    ["sh", "-c", "x=; for i in $(seq 300); do x=$x$i; done; echo ${#x}; (exit 7); echo $?"],
                    None,
                ),
                "bash": (["bash", "-c", "declare -A a; for i in {1..2000}; do a[$i]=$i; done; echo ${#a[@]}"], nobody),
                "coreutils": (
                    ["sh", "-c", "ls -lR /usr/bin | sort -k5n | sha256sum; tar -c /bin/true | wc -c"],
                    nobody,
                ),
                "perl": (
                    ["perl", "-e", "my %h = map { $_ => 'x' x $_ } 1..3000; print length join '', values %h"],
                    None,
                ),
                "gcc": (["sh", "-c", hello], None),
                "chage": (["chage", "-l", "nobody"], nobody),  # set-gid
                "su from root": (["su", "nobody", "-s", "/bin/sh", "-c", "id"], None),
                "mount": (["mount", "/proc", "/mnt"], nobody),
                "missing": (["sh", "-c", "/none; ls /none; echo $?"], None),
            },
            "waiting": {
                "hello64": (["/mnt/hello64"], None),
                "hello32": (["/mnt/hello32"], nobody),
                "perl": (["perl", "-e", "$| = 1; print 'ready'; <STDIN>"], None),
                "su": (["su", "root", "-c", "id"], nobody),
            },
            "served": {bits: f"/mnt/served{bits}" for bits in (64, 32)},
        }
    )


def test_installs_on_the_running_system_and_names_itself_once(found: dict[str, Any]) -> None:
    status, said = found["commands"][0]
    assert status == 0, said
    assert found["preload"].count("libmemproxy.so") == 1


@pytest.mark.parametrize("route", ["custom", "system"])
def test_every_program_says_what_it_said_before(found: dict[str, Any], route: str) -> None:
    assert found["plain"]["gcc"][1].split() == ["ready", "64", "in", "3", "ready", "32", "in", "3"]
    assert found["plain"]["mount"][0] == 32
    assert "uid=65534" in found["plain"]["su from root"][1]
    assert found["outputs"][route] == found["plain"]


@pytest.mark.parametrize(("route", "allocator"), [("custom", "libmimalloc.so"), ("system", "libc.so")])
def test_every_live_program_is_on_its_route(found: dict[str, Any], route: str, allocator: str) -> None:
    alive = found["alive"][route]
    for name, own in alive["own"].items():
        assert own is not None, name
        assert (own["route"], own["mapped"]) == (route, True), (name, own)
        assert os.path.basename(own["allocator"]).startswith(allocator), (name, own)
        assert (own["line"] > 0) == (route == "system")
    assert alive["ends"] == {"hello64": 3, "hello32": 3, "perl": 0, "su": 1}


@pytest.mark.parametrize("route", ["custom", "system"])
def test_the_table_of_verify_is_what_processes_say(found: dict[str, Any], route: str) -> None:
    alive = found["alive"][route]
    assert alive["verify"] == [0, ""]
    assert not [seen for seen in alive["agreed"] if "DISAGREES" in seen]
    for name, row in alive["rows"].items():
        assert (row["state"], row["route"], row["current"]) == ("loaded", route, True), name
    assert alive["rows"]["hello32"]["bits"] == 32
    assert alive["rows"]["su"]["uid"] == 0
    assert alive["itself"]["state"] == "earlier"


@pytest.mark.parametrize(("route", "owner"), [("custom", "mimalloc"), ("system", "glibc")])
@pytest.mark.parametrize("bits", ["64", "32"])
def test_each_block_is_of_one_allocator(found: dict[str, Any], route: str, owner: str, bits: str) -> None:
    report = found["served"][route][bits]
    assert report["route"] == route
    assert set(report["each"].values()) == {owner}, report
    assert {"malloc", "strdup", "operator new"} <= set(report["each"])


def test_uninstall_leaves_every_file_as_it_was(found: dict[str, Any]) -> None:
    for status, said in found["commands"][1:]:
        assert status == 0, said
    assert found["left"] == []
    assert found["afterwards"] == found["plain"]
    assert not PRELOAD.exists()
    assert subprocess.run(["true"], check=True).returncode == 0
