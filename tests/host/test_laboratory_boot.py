"""The laboratory can be bricked in every way that the runtime linker knows, and rescued as on the real system."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import pytest

from tests.host.laboratory import Bricked, Fault, Laboratory, Process, crle, elf, ldso
from tests.host.live import Live

CONFIG = {32: "/var/ld/ld.config", 64: "/var/ld/64/ld.config"}
OTHER = {32: 64, 64: 32}
NUMBER = {32: 3, 64: 62}
PATH = "/usr/local/lib/x.so"
HEAP = ("malloc", "calloc", "realloc", "free")
RESCUE = {"LD_NOCONFIG": "yes", "PATH": "/usr/sbin:/usr/bin"}


@pytest.fixture
def lab(tmp_path: Path) -> Laboratory:
    return Laboratory(tmp_path / "lab")


def configure(lab: Laboratory, bits: int, *options: str) -> None:
    """Write the live file with crle, in a shell that obeys none."""
    sixtyfour = ["-64"] if bits == 64 else []
    result = lab.execute(["/usr/bin/crle", *sixtyfour, "-c", CONFIG[bits], *options], RESCUE)
    assert (result.status, result.err) == (0, b"")


def preload(lab: Laboratory, bits: int, *paths: str) -> None:
    configure(lab, bits, "-e", f"LD_PRELOAD_{bits}={':'.join(paths)}")


def missing(lab: Laboratory, bits: int) -> str:
    preload(lab, bits, PATH)
    return f"{PATH}: open failed: No such file or directory"


def of_the_other_class(lab: Laboratory, bits: int) -> str:
    lab.write(PATH, elf.write(OTHER[bits], NUMBER[OTHER[bits]]))
    preload(lab, bits, PATH)
    return f"{PATH}: wrong ELF class: ELFCLASS{OTHER[bits]}"


def of_another_machine(lab: Laboratory, bits: int) -> str:
    lab.write(PATH, elf.write(bits, {32: 20, 64: 183}[bits]))
    preload(lab, bits, PATH)
    return f"{PATH}: wrong ELF machine type: "


def of_the_other_byte_order(lab: Laboratory, bits: int) -> str:
    lab.write(PATH, elf.write(bits, {32: 2, 64: 43}[bits], order=">"))
    preload(lab, bits, PATH)
    return f"{PATH}: wrong ELF data format: ELFDATA2MSB"


def a_directory(lab: Laboratory, bits: int) -> str:
    preload(lab, bits, "/usr/local/lib")
    return "/usr/local/lib: Is a directory"


def a_text(lab: Laboratory, bits: int) -> str:
    lab.write(PATH, b"INPUT(libmemproxy.so)\n")
    preload(lab, bits, PATH)
    return f"{PATH}: unknown file type"


def empty(lab: Laboratory, bits: int) -> str:
    lab.write(PATH, b"")
    preload(lab, bits, PATH)
    return f"{PATH}: unknown file type"


def truncated(lab: Laboratory, bits: int) -> str:
    lab.write(PATH, elf.write(bits, NUMBER[bits], exports=HEAP)[:-20])
    preload(lab, bits, PATH)
    return f"{PATH}: Bad address"


def lacking_a_dependency(lab: Laboratory, bits: int) -> str:
    lab.write(PATH, elf.write(bits, NUMBER[bits], needed=("libgone.so",)))
    preload(lab, bits, PATH)
    return "libgone.so: open failed: No such file or directory"


def only_the_second(lab: Laboratory, bits: int) -> str:
    lab.write(PATH, elf.write(bits, NUMBER[bits], exports=HEAP))
    preload(lab, bits, PATH, "/usr/local/lib/gone.so")
    return "/usr/local/lib/gone.so: open failed: No such file or directory"


def a_dangling_link(lab: Laboratory, bits: int) -> str:
    (lab.top / PATH[1:]).symlink_to("nowhere")
    preload(lab, bits, PATH)
    return f"{PATH}: open failed: No such file or directory"


def a_loop_of_links(lab: Laboratory, bits: int) -> str:
    (lab.top / PATH[1:]).symlink_to("x.so")
    preload(lab, bits, PATH)
    return f"{PATH}: "


def a_search_path_without_libc(lab: Laboratory, bits: int) -> str:
    configure(lab, bits, "-l", "/usr/local/lib")
    return "libc.so.1: open failed: No such file or directory"


def a_file_that_points_outside(lab: Laboratory, bits: int) -> str:
    configure(lab, bits, "-l", "/usr/local/lib")
    data = bytearray((lab.top / CONFIG[bits][1:]).read_bytes())
    data[16 + 36 : 16 + 40] = b"\xff\xff\xff\x7f"
    lab.write(CONFIG[bits], bytes(data))
    return "ended with -11"


def not_mounted_yet(lab: Laboratory, bits: int) -> str:
    lab.write("/opt/lib/x.so", elf.write(bits, NUMBER[bits], exports=HEAP))
    lab.mount("rpool/opt", "/opt", "zfs", late=True)
    preload(lab, bits, "/opt/lib/x.so")
    return "/opt/lib/x.so: open failed: No such file or directory"


WAYS: Sequence[Callable[[Laboratory, int], str]] = (
    missing, of_the_other_class, of_another_machine, of_the_other_byte_order, a_directory, a_text, empty, truncated,
    lacking_a_dependency, only_the_second, a_dangling_link, a_loop_of_links, a_search_path_without_libc,
    a_file_that_points_outside, not_mounted_yet,
)  # fmt: skip


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_each_brick_and_its_rescue(lab: Laboratory, way: Callable[[Laboratory, int], str], bits: int) -> None:
    lab.boot()
    words = way(lab, bits)
    program = {32: "/usr/bin/true32", 64: "/usr/bin/true"}[bits]
    other = {64: "/usr/bin/true32", 32: "/usr/bin/true"}[bits]
    if way is not not_mounted_yet:  # that one shows itself at the next boot only
        for uid in (0, 100):
            died = lab.execute([program], uid=uid)
            assert died.status == (-11 if way is a_file_that_points_outside else -9)
            if died.status == -9:
                assert died.err.decode().startswith(f"ld.so.1: {program[9:]}: fatal: {words}")
        assert words in (lab.brick() or "")
        assert lab.execute([other]).status == 0, "the other ABI has a configuration of its own"
    with pytest.raises(Bricked, match="ended with -"):
        lab.boot()
    with pytest.raises(Bricked):
        lab.boot()  # init restarts for ever
    # From single-user, or a shell that still lives: LD_NOCONFIG=yes rm /var/ld/ld.config
    tool = {32: ["/usr/bin/rm", CONFIG[32]], 64: ["/usr/bin/mv", CONFIG[64], "/var/ld/bad"]}[bits]
    if way is not not_mounted_yet:
        assert lab.execute(tool).status < 0, "the tool that would mend it dies as well"
    assert lab.execute(tool, RESCUE).status == 0
    assert lab.brick() is None
    lab.boot()


def test_a_library_that_only_root_can_read_lets_the_system_boot_and_no_user_in(lab: Laboratory) -> None:
    lab.write(PATH, elf.write(64, 62, exports=HEAP), 0o600)
    preload(lab, 64, PATH)
    lab.boot()
    assert lab.execute(["/usr/bin/true"]).status == 0
    died = lab.execute(["/usr/bin/true"], uid=100)
    assert (died.status, died.err) == (-9, f"ld.so.1: true: fatal: {PATH}: Permission denied\n".encode())
    assert "uid 100" in (lab.brick() or "")
    (lab.top / PATH[1:]).chmod(0o644)
    (lab.top / "usr/local/lib").chmod(0o700)
    assert "Permission denied" in (lab.brick() or ""), "a directory on the way that users cannot search"
    (lab.top / "usr/local/lib").chmod(0o755)
    assert lab.brick() is None


def test_a_configuration_that_only_root_can_read_is_silently_none_for_users(lab: Laboratory) -> None:
    preload(lab, 64, PATH)
    (lab.top / CONFIG[64][1:]).chmod(0o600)
    assert lab.execute(["/usr/bin/true"], uid=100).status == 0
    assert lab.execute(["/usr/bin/true"]).status == -9


@pytest.mark.parametrize("variable", ["LD_NOCONFIG", "LD_NOCONFIG_64", "LD_NOENVCONFIG", "LD_CONFIG_64"])
def test_the_variables_that_rescue(lab: Laboratory, variable: str) -> None:
    preload(lab, 64, PATH)
    assert lab.execute(["/usr/bin/true"], {variable: "/nosuch"}).status == 0
    assert lab.execute(["/usr/bin/true"], {variable: ""}).status == -9
    assert lab.execute(["/usr/bin/true32"], {variable: "/nosuch"}).status == 0


def test_set_id_programs_warn_where_others_die(lab: Laboratory) -> None:
    preload(lab, 32, PATH)
    warned = lab.execute(["/usr/bin/su"], uid=100)
    assert warned.status == 0
    assert warned.err == f"ld.so.1: su: warning: {PATH}: open failed: illegal insecure pathname\n".encode()
    assert lab.execute(["/usr/bin/su"]).status == -9, "root is not secure: nothing is changed by its set-id bit"


def test_a_configuration_on_a_late_var_is_not_seen_by_the_first_processes(lab: Laboratory) -> None:
    lab.var_mounted_late = True
    preload(lab, 64, PATH)
    assert lab.brick() is not None
    lab.boot()
    assert all(process.started.configuration.result == "cannot open" for process in lab.processes.values())
    assert "rpool/var\t/var\tzfs\t" in (lab.top / "etc/mnttab").read_text()


def test_the_first_processes_have_the_preload(lab: Laboratory) -> None:
    lab.write(PATH, elf.write(64, 62, soname="x.so", exports=HEAP))
    preload(lab, 64, PATH)
    lab.boot()
    (startd,) = [process for process in lab.processes.values() if process.path.endswith("svc.startd")]
    assert PATH in startd.objects
    assert PATH in {str(link.readlink()) for link in (lab.top / "proc" / str(startd.pid) / "path").iterdir()}
    assert isinstance(startd, Process)


def test_a_link_into_memory_is_gone_after_a_reboot(lab: Laboratory) -> None:
    preload(lab, 64, PATH)
    live = lab.top / CONFIG[64][1:]
    (lab.top / "var/run/memproxy").mkdir()
    live.rename(lab.top / "var/run/memproxy/ld.config")
    live.symlink_to("/var/run/memproxy/ld.config")
    assert "No such file" in (lab.brick() or "")
    lab.boot()
    assert lab.brick() is None
    assert live.is_symlink()


# Boot environments


def beadm(lab: Laboratory, *words: str) -> str:
    result = lab.execute(["/usr/sbin/beadm", *words], RESCUE)
    assert result.status == 0, result.err
    return result.out.decode()


def active(lab: Laboratory) -> dict[str, str]:
    return {line.split(";")[0]: line.split(";")[2] for line in beadm(lab, "list", "-H").splitlines()}


def test_a_clone_is_changed_apart_and_activated_for_one_boot(lab: Laboratory) -> None:
    before = (lab.top / "etc/release").read_bytes()
    assert beadm(lab, "create", "trial") == "Created successfully\n"
    beadm(lab, "mount", "trial", "/tmp/trial")
    (lab.top / "tmp/trial/etc/changed").write_text("there\n")
    assert (lab.top / "tmp/trial/etc/release").read_bytes() == before
    beadm(lab, "unmount", "trial")
    assert not (lab.top / "tmp/trial/etc").exists()
    beadm(lab, "activate", "-t", "trial")
    assert active(lab) == {"openindiana": "NR", "trial": "T"}
    lab.boot()
    assert (lab.top / "etc/changed").exists()
    assert active(lab) == {"openindiana": "R", "trial": "N"}
    lab.boot()
    assert not (lab.top / "etc/changed").exists()
    assert active(lab) == {"openindiana": "NR", "trial": ""}


def test_a_bricked_environment_for_one_boot_gives_way_to_the_former_at_the_next(lab: Laboratory) -> None:
    beadm(lab, "create", "trial")
    beadm(lab, "mount", "trial", "/a")
    clone = Laboratory(lab.top / "a")
    preload(clone, 64, PATH)
    beadm(lab, "unmount", "trial")
    beadm(lab, "activate", "-t", "trial")
    with pytest.raises(Bricked):
        lab.boot()
    lab.boot()
    assert lab.brick() is None


def test_an_activated_brick_is_left_by_the_boot_menu(lab: Laboratory) -> None:
    beadm(lab, "create", "good")
    preload(lab, 32, PATH)
    with pytest.raises(Bricked):
        lab.boot()
    lab.boot("good")
    assert lab.brick() is None
    beadm(lab, "mount", "openindiana", "/a")
    (lab.top / "a/var/ld/ld.config").unlink()
    lab.boot()
    assert active(lab) == {"openindiana": "NR", "good": ""}


def test_what_lies_in_memory_is_in_no_clone_and_a_mounted_clone_outlives_a_reboot(lab: Laboratory) -> None:
    (lab.top / "var/run/memproxy").mkdir()
    beadm(lab, "create", "one")
    beadm(lab, "mount", "one", "/tmp/one")
    beadm(lab, "create", "two")
    lab.boot()
    assert not (lab.top / "tmp/one").exists()
    for name in ("one", "two"):
        beadm(lab, "mount", name, f"/mnt/{name}")
        assert (lab.top / "mnt" / name / "etc/release").exists()
        assert list((lab.top / "mnt" / name / "var/run").iterdir()) == []
        assert list((lab.top / "mnt" / name / "tmp").iterdir()) == []


def test_owners_modes_and_services_are_copied(lab: Laboratory) -> None:
    lab.write("/opt/x", b"x", 0o4750)
    beadm(lab, "create", "-a", "copy")
    lab.boot()
    assert (lab.top / "opt/x").stat().st_mode & 0o7777 == 0o4750
    assert lab.execute(["/usr/bin/svcs", "-H", "-o", "state", "svc:/milestone/single-user:default"]).status == 0
    beadm(lab, "destroy", "-F", "openindiana")
    assert list(active(lab)) == ["copy"]


@pytest.mark.parametrize(
    "words",
    [["mount", "nosuch"], ["destroy", "-F", "openindiana"], ["create", "openindiana"], ["unmount", "openindiana"], []],
)
def test_what_beadm_refuses(lab: Laboratory, words: list[str]) -> None:
    result = lab.execute(["/usr/sbin/beadm", *words])
    assert result.status == 1
    assert result.err


def test_what_is_known_of_environments_survives_the_process(lab: Laboratory) -> None:
    beadm(lab, "create", "trial")
    again = Laboratory(lab.top)
    assert active(again) == {"openindiana": "NR", "trial": ""}
    assert json.loads((Path(f"{lab.top}.be") / "state.json").read_text())["running"] == "openindiana"


def test_releases_without_beadm_or_without_activation_for_one_boot(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Laboratory(tmp_path / "ten", "10").execute(["/usr/sbin/beadm", "list"])
    eleven = Laboratory(tmp_path / "eleven", "11.4")
    beadm(eleven, "create", "trial")
    assert eleven.execute(["/usr/sbin/beadm", "activate", "-t", "trial"]).status == 1


# Flavours of crle, and its faults


def test_solaris_10_writes_and_understands_no_identification(tmp_path: Path) -> None:
    lab = Laboratory(tmp_path / "lab", "10")
    configure(lab, 64, "-l", "/lib/64:/usr/lib/64:/opt")
    assert (lab.top / CONFIG[64][1:]).read_bytes()[:4] == b"\4\0\0\0"
    shown = lab.execute(["/usr/bin/crle", "-64"]).out.decode()
    assert "Platform" not in shown
    assert "/opt" in shown
    started = lab.start(["/usr/bin/true"])
    assert started is not None
    assert started.library_path == ("/lib/64", "/usr/lib/64", "/opt")
    identified = Laboratory(tmp_path / "other")
    configure(identified, 64, "-l", "/opt")
    configure(identified, 32, "-l", "/opt")
    lab.write("/tmp/identified", (identified.top / CONFIG[32][1:]).read_bytes())
    lab.write(CONFIG[64], (identified.top / CONFIG[64][1:]).read_bytes())
    assert ldso.accept((lab.top / CONFIG[64][1:]).read_bytes(), ldso.X86, 64, identifies=False).result == "bad version"
    refused = lab.execute(["/usr/bin/crle", "-c", "/tmp/identified", "-u", "-l", "/x"])
    assert (refused.status, b"file version [1129075263] newer than" in refused.err) == (1, True), refused.err
    assert lab.brick() is None


def test_solaris_11_4_cleans_directories_and_may_have_a_higher_version(tmp_path: Path) -> None:
    lab = Laboratory(tmp_path / "lab", "11.4")
    lab.config_version = 5
    configure(lab, 32, "-l", "/lib:/usr/lib//:/nosuch:/usr/local/lib/")
    shown = lab.execute(["/usr/bin/crle"]).out.decode()
    assert "[version 5]" in shown
    assert "(ELF)" not in shown
    assert "Default Library Path:\t/lib:/usr/lib:/usr/local/lib\n" in shown
    configure(lab, 32, "-F", "-l", "/lib:/nosuch")
    assert "/lib:/nosuch" in lab.execute(["/usr/bin/crle"]).out.decode()
    started = lab.start(["/usr/bin/true32"])
    assert started is not None
    assert started.library_path == ("/lib", "/nosuch")
    assert lab.execute(["/usr/bin/crle", "-f", "1", "-l", "/a"]).status == 1


def test_a_64_bit_crle_that_cannot_start(lab: Laboratory) -> None:
    preload(lab, 64, PATH)
    died = lab.execute(["/usr/bin/crle", "-64"])
    assert (died.status, died.out) == (-9, b"")
    (lab.top / "usr/bin/amd64/crle").unlink()
    told = lab.execute(["/usr/bin/crle", "-64"], RESCUE)
    assert told.err == b"crle: This system lacks support for 64-bit configuration files\n"


@pytest.mark.parametrize(
    ("fault", "status", "err", "there"),
    [
        (Fault(works=False), 0, b"", False),
        (Fault(works=False, status=0, err=b"crle: x: write failed\n"), 0, b"crle: x: write failed\n", False),
        (Fault(status=0, err=b"crle: something\n"), 0, b"crle: something\n", True),
        (Fault(instead=crle.removes_and_dies), -9, b"", False),
        (Fault(instead=crle.writes_other(b"garbage")), 0, b"", True),
        (Fault(when=lambda argv: "-64" in argv, status=-11), 0, b"", True),
    ],
)  # fmt: skip
def test_faults_of_crle(lab: Laboratory, fault: Fault, status: int, err: bytes, there: bool) -> None:
    lab.write("/tmp/x", b"old")
    (lab.top / "tmp/x").unlink()
    lab.faults["/usr/bin/crle"] = fault
    result = lab.execute(["/usr/bin/crle", "-c", "/tmp/x", "-l", "/a"])
    assert (result.status, result.err.startswith(err), (lab.top / "tmp/x").exists()) == (status, True, there)


def test_a_slow_command_is_killed_by_the_package_shell(live: Live) -> None:
    live.lab.faults["/usr/bin/uname"] = Fault(seconds=60, times=1)
    with pytest.raises(Exception, match="has not ended after 30 seconds"):
        live.shell.run(["/usr/bin/uname"])
    assert live.shell.run(["/usr/bin/uname"]).out == "SunOS\n"
