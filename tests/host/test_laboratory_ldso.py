"""The laboratory's runtime linker, held to every recording that touches what it models."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import tomli

from tests.host.laboratory import Laboratory, Program, Result, elf, ldso, proxy
from tests.host.laboratory.ldso import Linker
from tests.host.laboratory.tree import Tree

DATA = Path(__file__).parents[1] / "data"
LDSO = json.loads((DATA / "crle/ldso.json").read_text())
VECTORS = json.loads((DATA / "crle/vectors.json").read_text())
RUNTIME = json.loads((DATA / "ldso-runtime/ldso-runtime.json").read_text())
EXCLUSIONS = tomli.loads((DATA / "exclusions.toml").read_text())["case"]


LISTS = ("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_DEBUG")
"""The variables of which the recordings show both slots; of the switches they show whether they are on."""


def told(begun: ldso.Start) -> dict[str, Any]:
    """A process start in the words of the recordings."""
    if begun.configuration.result == "crash":
        return {"result": "crash"}
    found: dict[str, Any] = {
        "result": begun.configuration.result,
        "default_dirs": list(begun.library_path),
        "trusted_dirs": list(begun.trusted),
        "preload": [list(item) for item in begun.preloads],
    }
    slots = (("replaceable", begun.variables.replaceable), ("permanent", begun.variables.permanent))
    env = {f"{kind} {name}": slot[name] for kind, slot in slots for name in LISTS if name in slot}
    if any("LD_BIND_NOW" in slot for _, slot in slots):
        env["bind now"] = "1"
    if env:
        found["env"] = env
    if begun.messages:
        found["messages"] = list(begun.messages)
    return found


@pytest.mark.parametrize("record", LDSO, ids=lambda record: record["name"])
def test_every_recording_of_a_process_start(record: dict[str, Any], tmp_path: Path) -> None:
    for path, data in record["files"].items():
        file = tmp_path / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes.fromhex(data))
    begun = Linker(Tree(str(tmp_path))).configure(
        record["env"],
        int(record["abi"]),
        secure=record["secure"],
        file=None if record["config"] == "-" else record["config"],
    )
    assert told(begun) == record["expect"]


@pytest.mark.parametrize("record", [v for v in VECTORS if "ldso" in v], ids=lambda record: record["name"])
def test_every_file_that_crle_left_behind(record: dict[str, Any], tmp_path: Path) -> None:
    data = bytes.fromhex(record["config_hex"])
    (tmp_path / "f").write_bytes(data)
    for bits, expected in record["ldso"].items():
        begun = Linker(Tree(str(tmp_path))).configure([], int(bits), file="/f")
        assert told(begun) == expected, bits


# What programs did on a running illumos (aarch64, 64-bit only)

PROXY, ALLOCATOR = "/usr/local/lib/libmemproxy.so", "/usr/local/lib/libtalloc.so"
CRLE = "/usr/bin/crle"
OTHER_MATTERS = {
    "1": "calls of malloc inside a process: nothing of it is run here",
    "2": "calls of malloc inside a process: nothing of it is run here",
    "3": "dlsym and dlopen of a running program",
    "8": "threads and forks of a running program",
    "9": "wall time",
    "10": "blocks that are freed by another allocator",
    "6": "a whole boot of the real system; the laboratory's is test_laboratory_boot.py",
}
"""Questions of the recordings that the laboratory does not model, with the reason."""
NOT_MODELLED = {
    **dict.fromkeys(
        ("gen-dir", "gen-updown", "gen-symlink", "gen-hardlink"),
        "the name that getexecname shows for a program started by a relative name",
    ),
    **{f"gen-name-{size}": "a relative name" for size in (15, 17, 31, 32, 64, 128, 200, 255)},
    "gen-path": "the search of PATH is env's and the shell's",
    "gen-doubleslash": "how the kernel writes the name",
    "gen-long-path": "PATH_MAX of this machine",
    "gen-ldso": "the runtime linker started as a program",
    "gen-chroot-noproc-rel": "a chroot without /proc",
    "gen-script": "a relative name",
    "ldd-missing": "ldd",
}
"""Single records, with the reason."""


def modelled(record: dict[str, Any]) -> bool:
    if record["question"].split()[0] in OTHER_MATTERS or record["name"] in NOT_MODELLED:
        return False
    return "/hold" not in record["program"][0]  # a process that is running while its libraries are changed


CANDIDATES = {
    "e-LD_CONFIG_64-candidate": ("/tmp/cand", "LD_PRELOAD_64=/usr/lib/libdep.so"),
    "e-LD_CONFIG_64-bad-candidate": ("/tmp/cand", "LD_PRELOAD_64=/usr/lib/libgone.so"),
    "e-LD_CONFIG_64-32bit-candidate": ("/tmp/cand32", f"LD_PRELOAD_64={PROXY}"),
    "broken-live-good-candidate": ("/tmp/cand", f"LD_PRELOAD_64={PROXY}:{ALLOCATOR}"),
}
"""What lay ready for LD_CONFIG_64, after the records' conclusions."""


def runtime_system(record: dict[str, Any], tmp_path: Path) -> Laboratory:
    """The system on which this record was made."""
    lab = Laboratory(tmp_path / "lab", machine="aarch64")
    name = record["name"].split("/")[0]
    heap = ("malloc", "calloc", "realloc", "free", "memalign")

    def library(path: str, **properties: Any) -> None:
        properties.setdefault("needed", ("libc.so.1",))
        lab.write(path, elf.write(64, properties.pop("machine", 183), **properties), 0o755)

    proxy_object = {"soname": "libmemproxy.so", "exports": heap}
    allocator_object = {"soname": "libtalloc.so", "exports": heap}
    library(PROXY, **proxy_object)
    library(ALLOCATOR, **allocator_object)
    library("/lib/libumem.so.1", soname="libumem.so.1", exports=heap)
    (lab.top / "usr/lib/libumem.so.1").symlink_to("../../lib/libumem.so.1")
    library("/usr/lib/libdep.so", soname="libdep.so")
    library("/usr/local/lib/libtdep.so", soname="libtdep.so", exports=heap, needed=("libgone.so", "libc.so.1"))
    library("/usr/local/lib/libmach.so", machine=62, **allocator_object)
    library("/usr/local/lib/libm0.so", **allocator_object)
    library("/opt/u/libtalloc.so", **allocator_object)
    lab.write("/usr/local/lib/libgarb.so", b"this is a text and no library\n" * 3)
    lab.write("/usr/local/lib/libempty.so", b"")
    whole = (lab.top / ALLOCATOR[1:]).read_bytes()
    lab.write("/usr/local/lib/libtrunc.so", whole[: len(whole) // 2])
    (lab.top / "opt/lnk").symlink_to("/usr/local/lib")
    if name.startswith("mode-"):
        (lab.top / "usr/local/lib/libm0.so").chmod(int(name[5:], 8))
    places = {"simple-in-usr-lib-not-secure": ("/usr/lib",), "full-in-secure": ("/usr/lib/secure",)}
    places["simple-in-usr-lib-and-secure"] = ("/usr/lib", "/usr/lib/secure")
    for directory in places.get(name, ()):
        library(f"{directory}/libmemproxy.so", **proxy_object)
        library(f"{directory}/libtalloc.so", **allocator_object)
    for path, own in (("/usr/bin/idp", {}), ("/usr/bin/pp-suid", {"set_id": True}), ("/tmp/g/prog", {})):
        lab.install_program(path, Program(64, lambda *_: Result(0), **own))
    lab.write("/tmp/g/script", b"#!/tmp/g/prog\n", 0o755)
    (lab.top / "tmp/g/slink").symlink_to("script")
    lab.write("/tmp/empty", b"")
    if name in CANDIDATES:
        file, variable = CANDIDATES[name]
        assert lab.execute([CRLE, "-64", "-c", file, "-e", variable]).status == 0
    if record["setup"]["crle"]:
        before, variable, last = re.fullmatch(r"(.*) (-[eE]) (.*)", record["setup"]["crle"]).groups()
        done = lab.execute([CRLE, *before.split(), variable, last], {"LD_NOCONFIG": "yes"})
        assert (done.status, done.err) == (0, b"")
    changed(lab, name)
    return lab


def changed(lab: Laboratory, name: str) -> None:
    """What was done to the system behind the configuration's back."""
    live = lab.top / "var/ld/64/ld.config"
    if name.startswith("config-mode-"):
        live.chmod(int(name[12:], 8))
    elif name == "config-empty":
        live.write_bytes(b"")
    elif name == "config-garbage":
        live.write_bytes(b"this is no configuration file " * 9)
    elif name == "upgrade-truncate-proxy":
        (lab.top / PROXY[1:]).write_bytes(b"")
    elif name == "upgrade-truncate-allocator":
        (lab.top / ALLOCATOR[1:]).write_bytes(b"")
    elif name == "upgrade-chmod-000":
        (lab.top / PROXY[1:]).chmod(0)
    elif name == "upgrade-unlink-both":
        for path in (PROXY, ALLOCATOR):
            (lab.top / path[1:]).unlink()
        live.unlink()  # else nothing would start, as other records show


@pytest.mark.parametrize("record", [r for r in RUNTIME if modelled(r)], ids=lambda record: record["name"])
def test_every_recording_of_a_running_system(record: dict[str, Any], tmp_path: Path) -> None:
    lab = runtime_system(record, tmp_path)
    setup, argv = record["setup"], record["program"]
    environment = dict(text.split("=", 1) for text in setup["environment"])
    result = lab.execute(argv, environment, setup["user"])
    said = [line for line in record["stderr"].splitlines() if not line.startswith(("[", "  call"))]
    assert result.err.decode().splitlines() == said
    assert result.status == (-record["signal"] if "signal" in record else record["exit"])
    if result.status != 0:
        return
    words = re.fullmatch(
        r"uid \d+ euid \d+ issetugid (\d) proxy (yes|no) route (\S+) allocator (\S+) malloc-from (\S+) "
        r"name (\S+) execname (\S+)\n",
        record["stdout"],
    )
    secure, proxied, route, allocator, serves, _, executable = words.groups()
    started = lab.start(argv, environment, setup["user"])
    paths = [one.path for one in started.loaded]
    names = [one.object.soname for one in started.loaded if one.object is not None]
    decision = proxy.decide(started.loaded, environment, None)
    first = next(one.path for one in started.loaded if one.object and "malloc" in one.object.exports)
    assert paths[0] == executable
    assert ("libmemproxy.so" in names, "libtalloc.so" in names) == (proxied == "yes", allocator == "loaded")
    assert first == serves
    if not serves.endswith("libumem.so.1"):  # the prototype did not notice who is ahead of it
        assert (decision.route if decision else "-") == route
    assert secure == str(int(argv[0].endswith("suid")))


def test_the_recordings_that_are_not_modelled_are_named() -> None:
    names = {record["name"] for record in RUNTIME}
    assert NOT_MODELLED.keys() <= names
    assert sum(modelled(record) for record in RUNTIME) >= 130


@pytest.mark.parametrize("case", EXCLUSIONS, ids=lambda case: case["situation"])
def test_the_exclusion_list_is_matched_as_the_table_of_cases_says(case: dict[str, Any]) -> None:
    encoding = case.get("encoding", "utf-8")
    data = case["list"].encode(encoding)
    for executable, expected in case["decides"].items():
        route, line = proxy.lookup(data, os.fsdecode(executable.encode(encoding)))
        assert (f"{route} {line}" if line else "-") == expected, executable


# What no recording shows, after the reference page


@pytest.fixture
def lab(tmp_path: Path) -> Laboratory:
    return Laboratory(tmp_path / "lab")


def objects_of(lab: Laboratory, argv: list[str], environment: dict[str, str], uid: int = 0) -> list[str]:
    started = lab.start(argv, environment, uid)
    return [one.path for one in started.loaded[1:]] if started.status is None else list(started.messages)


def test_a_path_from_before_lib_and_usr_lib_were_apart(lab: Laboratory) -> None:
    assert lab.execute([CRLE, "-64", "-l", "/opt:/usr/lib/64", "-s", "/usr/lib/secure/64"]).status == 0
    live = lab.top / "var/ld/64/ld.config"
    data = bytearray(live.read_bytes())
    data[20] &= ~8
    live.write_bytes(bytes(data))
    started = lab.start(["/usr/bin/true"])
    assert started.library_path == ("/opt", "/lib/64", "/usr/lib/64")
    assert started.trusted == ("/lib/secure/64", "/usr/lib/secure/64")


@pytest.mark.parametrize("where", ["environment", "file", "permanent"])
def test_the_library_path_of_a_secure_process(lab: Laboratory, where: str) -> None:
    for directory in ("/opt/trusted", "/opt/other"):
        lab.write(f"{directory}/only{directory[-5:]}.so", elf.write(32, 3))
    path, names = "/opt/trusted:/opt/other", ("onlyusted.so", "onlyother.so")
    options = ["-s", "/opt/trusted"]
    environment = {"LD_PRELOAD": ":".join(names)}
    if where == "environment":
        environment["LD_LIBRARY_PATH"] = path
    else:
        options += ["-e" if where == "file" else "-E", f"LD_LIBRARY_PATH={path}"]
    assert lab.execute([CRLE, *options]).status == 0
    found = [name.rpartition("/")[2] for name in objects_of(lab, ["/usr/bin/su"], environment, 100)]
    assert found == [*(names if where != "environment" else names[:1]), "libc.so.1"], "the user's is only half trusted"
    assert set(names) <= {name.rpartition("/")[2] for name in objects_of(lab, ["/usr/bin/ls"], environment)}


def test_a_relative_runpath_is_not_followed_by_a_secure_process(lab: Laboratory) -> None:
    lab.write("/opt/lib/simple.so", elf.write(32, 3))
    lab.tree.cwd = "/opt"
    for secure in (True, False):
        program = Program(32, lambda *_: Result(0), set_id=secure, runpath=("lib",))
        lab.install_program(f"/usr/bin/p{secure}", program)
        found = objects_of(lab, [f"/usr/bin/p{secure}"], {"LD_PRELOAD": "simple.so"}, 100)
        assert ("/opt/lib/simple.so" in found) is not secure


def test_an_object_is_loaded_once_whatever_its_names(lab: Laboratory) -> None:
    lab.write("/opt/a.so", elf.write(64, 62))
    (lab.top / "opt/b.so").symlink_to("a.so")
    os.link(lab.top / "opt/a.so", lab.top / "opt/c.so")
    preload = "/opt/a.so:/opt/b.so:/opt//a.so:/opt/c.so:/lib/64/libc.so.1"
    assert [path[-9:] for path in objects_of(lab, ["/usr/bin/true"], {"LD_PRELOAD": preload})] == [
        "/opt/a.so", "libc.so.1",
    ]  # fmt: skip


def test_the_search_for_a_simple_name_goes_on_behind_a_misfit_and_reports_the_first(lab: Laboratory) -> None:
    lab.write("/opt/one/x.so", elf.write(32, 3))
    lab.write("/opt/two/x.so", b"text")
    environment = {"LD_PRELOAD": "x.so", "LD_LIBRARY_PATH": "/opt/one:/opt/two"}
    assert objects_of(lab, ["/usr/bin/true"], environment) == [
        "ld.so.1: true: fatal: /opt/one/x.so: wrong ELF class: ELFCLASS32"
    ]
    lab.write("/usr/lib/64/x.so", elf.write(64, 62))
    assert objects_of(lab, ["/usr/bin/true"], environment)[0].endswith("/x.so")


def test_the_same_library_path_of_user_and_file_is_the_files_where_it_wins(lab: Laboratory) -> None:
    lab.write("/opt/x.so", elf.write(32, 3))
    assert lab.execute([CRLE, "-e", "LD_LIBRARY_PATH_32=/opt"]).status == 0
    environment = {"LD_PRELOAD": "x.so", "LD_LIBRARY_PATH": "/opt"}
    assert "/opt/x.so" in objects_of(lab, ["/usr/bin/su"], environment, 100)


def test_sparc_has_a_layout_of_its_own(tmp_path: Path) -> None:
    lab = Laboratory(tmp_path / "lab", machine="sparc")
    lab.write("/opt/x.so", elf.write(32, 18, order=">"))
    for options in (["-e", "LD_PRELOAD_32=/opt/x.so"], ["-64", "-l", "/lib/64:/opt"]):
        assert lab.execute([CRLE, *options], {"LD_NOCONFIG": "1"}).err == b""
    assert len((lab.top / "var/ld/ld.config").read_bytes()) == 16 + 88 + 16 + 24
    assert b"Platform:\t64-bit MSB SPARCV9" in lab.execute([CRLE, "-64"]).out
    assert "/opt/x.so" in objects_of(lab, ["/usr/bin/true32"], {}), "V8+ code is for 32-bit processes"
    assert lab.start(["/usr/bin/true"]).library_path == ("/lib/64", "/opt")
    lab.boot()
