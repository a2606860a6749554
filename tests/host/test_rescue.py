"""Rescue: each printed sequence, typed into a laboratory that has been bricked, brings it back."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Callable

import pytest

from memproxy_sol import rescue
from memproxy_sol.abi import X86
from memproxy_sol.cli import main
from memproxy_sol.commands import Shell
from memproxy_sol.errors import HostError
from memproxy_sol.hosts.solaris_live import LiveFacts, Mount
from memproxy_sol.ld_config import Variable, encode, layout_for, new
from memproxy_sol.root import Root
from memproxy_sol.zones import Zone
from tests.host.laboratory import Bricked, Laboratory, Program, Result
from tests.host.live import Live
from tests.images import CONFIG, Image

FORMER = encode(replace(new(layout_for(X86, 32)), library_path=("/lib", "/usr/lib", "/opt/lib")))


# A shell in a laboratory


class Typist:
    """Somebody at a root shell that runs since before; what they type starts new processes."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab = lab
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin"}
        self.rebooted = False
        for path, bits, implementation in (
            ("/usr/bin/mv", 32, move),
            ("/usr/bin/cp", 32, copy),
            ("/usr/bin/mkdir", 32, make),
            ("/usr/sbin/reboot", 32, self._reboot),
        ):
            lab.install_program(path, Program(bits, implementation))

    def _reboot(self, lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
        self.rebooted = True
        return Result(0)

    def offer(self, path: str, work: Callable[[Sequence[str]], None]) -> None:
        """A further command, which succeeds unless `work` raises."""

        def run(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
            work(argv[1:])
            return Result(0)

        self.lab.install_program(path, Program(64, run))

    def types(self, line: str) -> int:
        """One line, and the status with which the shell goes on."""
        if line.startswith(": > "):
            self.lab.path(shlex.split(line)[2]).write_bytes(b"")
            return 0
        if line.startswith("unset "):
            del self.environment[line.split()[1]]
            return 0
        assigned = re.fullmatch(r"(\w+)=(\w*); export \1", line)
        if assigned:
            self.environment[assigned[1]] = assigned[2]
            return 0
        assert not re.search(r"[;&|<>$`]", line), line
        words = shlex.split(line)
        for directory in ("", "/usr/sbin/", "/usr/bin/", "/sbin/"):
            if directory + words[0] in self.lab.programs:
                return self.lab.execute([directory + words[0], *words[1:]], self.environment).status
        raise AssertionError(f"there is no {words[0]} in the laboratory")

    def types_all(self, lines: Sequence[str]) -> None:
        for line in lines:
            assert self.types(line) == 0, line


def move(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    assert argv[1] == "-f"
    os.rename(lab.path(argv[2]), lab.path(argv[3]))
    return Result(0)


def copy(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    assert argv[1] == "-p"
    assert not lab.path(argv[3]).is_symlink()
    shutil.copy2(lab.path(argv[2]), lab.path(argv[3]))
    return Result(0)


def make(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    assert argv[1] == "-p"
    lab.path(argv[2]).mkdir(parents=True, exist_ok=True)
    return Result(0)


def ways(text: str) -> dict[str, list[str]]:
    """The commands below each title."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        title = re.fullmatch(r"\d+\. (.+)", line)
        if title:
            commands = found[title[1]] = []
        elif line.startswith("Then, once"):
            commands = found["then"] = []
        elif line.startswith("    "):
            commands.append(line.strip())
    return found


def install(lab: Laboratory, objects: Path) -> None:
    """Install into the laboratory's tree."""
    allocators = [word for d in ("", "64") for word in ("--allocator", str(objects / d / "liballoc.so"))]
    assert main(["install", "--root", str(lab.top), "--libraries", str(objects), *allocators]) == 0


@pytest.fixture
def bricked(live: Live) -> Live:
    """A laboratory with memproxy-sol over a former 32-bit configuration, its libraries then deleted."""
    live.write(CONFIG[32], FORMER)
    install(live.lab, live.objects)
    live.capsys.readouterr()
    break_it(live.lab)
    return live


def break_it(lab: Laboratory) -> None:
    shutil.rmtree(lab.top / "usr/local/lib/memproxy")
    assert "fatal" in (lab.brick() or "")


def printed(live: Live) -> dict[str, list[str]]:
    assert live.run("rescue") == 0, live.err
    return ways(live.out)


def is_back(lab: Laboratory) -> None:
    """New programs of both ABIs start, the former configuration is in force, and the machine boots."""
    assert lab.brick() is None
    assert (lab.top / CONFIG[32]).read_bytes() == FORMER
    assert not (lab.top / CONFIG[64]).exists()
    lab.boot()


def test_the_laboratory_is_bricked(bricked: Live) -> None:
    typist = Typist(bricked.lab)
    assert typist.types("mv -f /etc/passwd /etc/x") < 0
    assert typist.types("/usr/bin/true") < 0
    with pytest.raises(Bricked):
        bricked.lab.boot()


# A root shell


def test_a_living_shell(bricked: Live) -> None:
    typist = Typist(bricked.lab)
    typist.types_all(printed(bricked)["A root shell is still open"])
    assert "LD_NOCONFIG" not in typist.environment
    is_back(bricked.lab)


def test_builtins_alone(bricked: Live) -> None:
    for name in ("/usr/bin/mv", "/usr/bin/cp"):
        Typist(bricked.lab)
        bricked.lab.path(name).unlink()
        del bricked.lab.programs[name]
    typist = Typist.__new__(Typist)
    typist.lab, typist.environment = bricked.lab, {}
    typist.types_all(printed(bricked)["A root shell is still open, and not even mv starts"])
    bricked.lab.boot()


def test_what_comes_then(bricked: Live) -> None:
    commands = printed(bricked)
    Typist(bricked.lab).types_all(commands["A root shell is still open"])
    assert commands["then"] == ["memproxy-sol verify", "memproxy-sol uninstall"]
    assert main(["uninstall", "--root", str(bricked.lab.top)]) == 0
    is_back(bricked.lab)
    assert not (bricked / "var/ld/memproxy-rescue.txt").exists()
    assert not (bricked / (CONFIG[32] + ".before-memproxy")).exists()


def test_a_pending_trial_is_a_link_and_moves_out_of_the_way(bricked: Live) -> None:
    """A trial's live name is a symbolic link into /var/run."""
    for bits in (32, 64):
        moved = bricked.write(f"var/run/memproxy/trial/{bits}", (bricked / CONFIG[bits]).read_bytes())
        (bricked / CONFIG[bits]).unlink()
        (bricked / CONFIG[bits]).symlink_to("/" + str(moved.relative_to(bricked.path)))
    assert "fatal" in (bricked.lab.brick() or "")
    Typist(bricked.lab).types_all(printed(bricked)["A root shell is still open"])
    is_back(bricked.lab)


# From outside


def other_system(bricked: Live, tmp_path: Path) -> Typist:
    """Another system on the same machine, with an empty /a."""
    lab = Laboratory(tmp_path / "other")
    return Typist(lab)


def test_another_boot_environment(bricked: Live, tmp_path: Path) -> None:
    commands = printed(bricked)["The system does not come up: another boot environment"]
    typist = other_system(bricked, tmp_path)
    done = []

    def beadm(words: Sequence[str]) -> None:
        done.append(words[0])
        if words[0] == "mount":
            assert words[1:] == ["openindiana", "/a"]
            typist.lab.path("/a").rmdir()
            os.rename(bricked.path, typist.lab.path("/a"))
        elif words[0] == "unmount":
            os.rename(typist.lab.path("/a"), bricked.path)
        assert words[1] == "openindiana"

    typist.offer("/usr/sbin/beadm", beadm)
    typist.types_all(commands)
    assert (done, typist.rebooted) == (["mount", "unmount", "activate"], True)
    is_back(bricked.lab)


def datasets(typist: Typist, bricked: Live, pool: str, root: str, var: str | None = None) -> list[str]:
    """zpool and zfs of install media; what they were asked for is in the list."""
    asked: list[str] = []
    aside = bricked.path.with_name("var-dataset")
    if var is not None:
        os.rename(bricked / "var", aside)
        (bricked / "var").mkdir()

    def zpool(words: Sequence[str]) -> None:
        asked.append("zpool " + " ".join(words))
        if words[0] == "export":
            assert words[1:] == [pool]
            if var is not None:
                os.rename(typist.lab.path("/a/var"), aside)
                typist.lab.path("/a/var").mkdir()
            os.rename(typist.lab.path("/a"), bricked.path)
            if var is not None:
                (bricked / "var").rmdir()
                os.rename(aside, bricked / "var")

    def zfs(words: Sequence[str]) -> None:
        asked.append("zfs " + " ".join(words))
        if words[1] == root:
            typist.lab.path("/a").rmdir()
            os.rename(bricked.path, typist.lab.path("/a"))
        else:
            assert words[1] == var
            typist.lab.path("/a/var").rmdir()
            os.rename(aside, typist.lab.path("/a/var"))

    typist.offer("/usr/sbin/zpool", zpool)
    typist.offer("/usr/sbin/zfs", zfs)
    return asked


MEDIA = "The system does not come up: install media, failsafe, network boot"


def test_install_media(bricked: Live, tmp_path: Path) -> None:
    commands = printed(bricked)[MEDIA]
    typist = other_system(bricked, tmp_path)
    asked = datasets(typist, bricked, "rpool", "rpool/ROOT/openindiana")
    typist.types_all(commands)
    assert asked == ["zpool import -f -N -R /a rpool", "zfs mount rpool/ROOT/openindiana", "zpool export rpool"]
    assert typist.rebooted
    is_back(bricked.lab)


def test_install_media_and_a_var_of_its_own(bricked: Live, tmp_path: Path) -> None:
    bricked.lab.mount("rpool/ROOT/openindiana/var", "/var", "zfs", "rw")
    commands = printed(bricked)[MEDIA]
    typist = other_system(bricked, tmp_path)
    asked = datasets(typist, bricked, "rpool", "rpool/ROOT/openindiana", "rpool/ROOT/openindiana/var")
    typist.types_all(commands)
    assert asked[1:3] == ["zfs mount rpool/ROOT/openindiana", "zfs mount rpool/ROOT/openindiana/var"]
    is_back(bricked.lab)


def test_install_media_and_slices(bricked: Live, tmp_path: Path) -> None:
    bricked.lab.unmount("/")
    bricked.lab.mount("/dev/dsk/c0t0d0s0", "/", "ufs", "rw")
    bricked.lab.mount("/dev/dsk/c0t0d0s5", "/var", "ufs", "rw")
    text = printed(bricked)
    assert "The system does not come up: another boot environment" not in text
    typist = other_system(bricked, tmp_path)
    aside = bricked.path.with_name("slice5")
    os.rename(bricked / "var", aside)
    (bricked / "var").mkdir()
    where = {"/dev/dsk/c0t0d0s0": (bricked.path, "/a"), "/dev/dsk/c0t0d0s5": (aside, "/a/var")}

    def mount(words: Sequence[str]) -> None:
        assert words[:2] == ["-F", "ufs"]
        source, point = where[words[2]]
        assert words[3] == point
        typist.lab.path(point).rmdir()
        os.rename(source, typist.lab.path(point))

    def umount(words: Sequence[str]) -> None:
        source = next(source for source, point in where.values() if point == words[0])
        os.rename(typist.lab.path(words[0]), source)
        if words[0] != "/a":
            typist.lab.path(words[0]).mkdir()

    typist.offer("/sbin/umount", umount)
    typist.offer("/usr/sbin/mount", mount)
    typist.types_all(text[MEDIA])
    (bricked / "var").rmdir()
    os.rename(aside, bricked / "var")
    is_back(bricked.lab)


def test_single_user_where_var_is_of_its_own(bricked: Live) -> None:
    lab = bricked.lab
    lab.mount("rpool/VARSHARE/var", "/var", "zfs", "rw")
    commands = printed(bricked)["The system does not come up: single-user mode"]
    typist = Typist(lab)
    lab.tree.hidden.add("/var")

    def mount(words: Sequence[str]) -> None:
        assert list(words) == ["-F", "zfs", "rpool/VARSHARE/var", "/var"]
        lab.tree.hidden.discard("/var")

    typist.offer("/usr/sbin/mount", mount)
    typist.types_all(commands)
    is_back(lab)


def test_single_user_is_not_promised_where_it_dies(bricked: Live) -> None:
    assert printed(bricked)["The system does not come up: single-user mode"] == []
    assert "does not help here" in bricked.out


# Zones


def zone_commands(typist: Typist) -> list[str]:
    asked: list[str] = []
    for name in ("zoneadm", "zonecfg"):
        typist.offer(f"/usr/sbin/{name}", lambda words, name=name: asked.append(f"{name} {' '.join(words)}"))
    return asked


def test_from_the_global_zone(bricked: Live, tmp_path: Path) -> None:
    bricked.lab.zone = "web"
    commands = printed(bricked)["This is a zone: from the global zone"]
    assert not [title for title in ways(bricked.out) if title.startswith("The system")]
    typist = other_system(bricked, tmp_path)
    asked = zone_commands(typist)
    place = typist.lab.path("/zones")
    (place / "web").mkdir(parents=True)
    os.rename(bricked.path, place / "web/root")
    typist.types_all([line.replace("ZONEPATH", "/zones/web") for line in commands])
    os.rename(place / "web/root", bricked.path)
    assert asked == [
        "zonecfg -z web info zonepath",
        "zoneadm -z web halt",
        "zoneadm -z web ready",
        "zoneadm -z web boot",
    ]
    is_back(bricked.lab)


def test_the_zones_below(live: Live) -> None:
    zone = Laboratory(live.path / "zones/web/root")
    shutil.rmtree(zone.top / "var/run")
    for bits in (32, 64):
        broken = replace(new(layout_for(X86, bits)), environment=(Variable("LD_PRELOAD=/no/such", 2),))
        zone.write("/" + CONFIG[bits], encode(broken))
    assert zone.brick() is not None
    live.write("etc/zones/index", b"global:installed:/\nweb:running:/zones/web\n")
    typist = Typist(live.lab)
    asked = zone_commands(typist)
    typist.types_all(printed(live)["Programs die in the zone web"])
    assert asked == ["zoneadm -z web halt", "zoneadm -z web ready", "zoneadm -z web boot"]
    assert zone.brick() is None


# What install keeps


def test_install_keeps_the_text_and_the_former_file_and_uninstall_takes_them_away(image: Image) -> None:
    image.write(CONFIG[32], FORMER, 0o444)
    before = image.snapshot()
    assert image.install() == 0, image.err
    assert (image / (CONFIG[32] + ".before-memproxy")).read_bytes() == FORMER
    assert (image / (CONFIG[32] + ".before-memproxy")).stat().st_mode & 0o7777 == 0o444
    assert not (image / (CONFIG[64] + ".before-memproxy")).exists()
    kept = (image / "var/ld/memproxy-rescue.txt").read_text()
    assert image.run("rescue") == 0
    assert image.out == kept
    assert "cp -p /var/ld/ld.config.before-memproxy /var/ld/ld.config\n" in kept
    assert image.run("plan", "--libraries", str(image.objects)) == 0, image.out
    assert image.run("uninstall", "--purge") == 0
    assert image.snapshot() == before


def test_a_former_file_that_changes_is_kept_anew(image: Image) -> None:
    image.write(CONFIG[32], FORMER)
    assert image.install() == 0
    other = FORMER.replace(b"/opt/lib", b"/opt/new")
    (image / CONFIG[32]).write_bytes(other)
    assert image.install() == 0
    assert (image / (CONFIG[32] + ".before-memproxy")).read_bytes() == other
    (image / CONFIG[32]).write_bytes(encode(new(layout_for(X86, 32))))
    assert image.install() == 0
    assert not (image / (CONFIG[32] + ".before-memproxy")).exists()
    assert "cp -p" not in (image / "var/ld/memproxy-rescue.txt").read_text()


def test_somebody_elses_file_in_the_place_is_kept(image: Image) -> None:
    theirs = image.write("var/ld/memproxy-rescue.txt", b"mine")
    assert image.install() == 0
    assert "rescue-not-kept" in image.out
    assert image.run("uninstall", "--purge") == 0
    assert theirs.read_bytes() == b"mine"


def test_the_text_is_there_before_the_configuration_changes(image: Image) -> None:
    assert image.install("--dry-run", "--json") == 3
    order = re.findall(r'"path": "(/var/[^"]+)"', image.out)
    assert order.index("/var/ld/memproxy-rescue.txt") < order.index("/var/ld/ld.config")


# In any state


DAMAGE = {
    "record": ("var/opt/memproxy/installed.json", b"garbage"),
    "journal": ("var/opt/memproxy/changes/1/journal", b"garbage"),
    "configuration": (CONFIG[32], b"?RLCgarbage"),
    "configuration of the other ABI": (CONFIG[64], b""),
    "policy": ("etc/memproxy.toml", b"garbage = [\n"),
    "exclusion list": ("etc/memproxy.conf", b"\0\0 = = ="),
    "release": ("etc/release", b"Solaris 8 x\n"),
    "nonsense release": ("etc/release", b"\xff\xfe\n"),
    "libc": ("lib/libc.so.1", b"no ELF"),
    "mount table": ("etc/mnttab", b"a\tb\n\xff"),
    "zones": ("etc/zones/index", b":::\n\xff:\xff:/\xff\n"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_it_works_whatever_is_damaged(what: str, bricked: Live) -> None:
    path, data = DAMAGE[what]
    sound = (bricked / path).read_bytes() if (bricked / path).exists() else None
    bricked.write(path, data)
    commands = printed(bricked)["A root shell is still open"]
    if what == "libc":  # without it LD_NOCONFIG helps nobody
        bricked.write(path, sound or b"")
    Typist(bricked.lab).types_all(commands)
    is_back(bricked.lab)


@pytest.mark.parametrize(
    "program", ["/usr/bin/uname", "/usr/bin/isainfo", "/usr/bin/zonename", "/sbin/mount", "/usr/bin/crle"]
)
def test_it_works_without_any_command(program: str, bricked: Live) -> None:
    bricked.lab.path(program).unlink()
    Typist(bricked.lab).types_all(printed(bricked)["A root shell is still open"])
    is_back(bricked.lab)


def test_only_what_we_configured_is_named(live: Live) -> None:
    allocator = str(live.objects / "64/liballoc.so")
    words = ["--bits", "64", "--libraries", str(live.objects), "--allocator", allocator]
    assert main(["install", "--root", str(live.path), *words]) == 0
    live.capsys.readouterr()
    assert live.run("rescue") == 0
    assert "/var/ld/64/ld.config" in live.out
    assert "/var/ld/ld.config" not in live.out


def test_another_system() -> None:
    with pytest.raises(HostError, match="the running system is Linux"):
        rescue.gather(Root("/"), Shell())


# The text


def text_for(**changes: object) -> str:
    live = LiveFacts(mounts=(Mount("rpool/ROOT/be-1", "/", "zfs"),), zone="global")
    where = rescue.situation(live, "illumos", [("/var/ld/ld.config", None)])
    return rescue.text(replace(where, **changes))  # type: ignore[arg-type]


def test_the_text_is_ascii_and_folded_for_a_console() -> None:
    text = text_for(zones=(Zone("web", "running", "/zones/we\u00e4b x"),))
    assert text.isascii()
    for line in text.splitlines():
        assert len(line) <= 80 or line.startswith("    "), line
    assert text.endswith("memproxy-sol uninstall\n")


def test_names_of_this_host_are_in_it() -> None:
    text = text_for()
    assert "beadm mount be-1 /a" in text
    assert "zfs mount rpool/ROOT/be-1" in text
    assert "BE" not in re.sub(r"LD_NOCONFIG", "", text)


def test_solaris_10_has_no_boot_environments_and_no_import_without_mounting() -> None:
    text = text_for(release="10")
    assert "beadm" not in text
    assert "zpool import -f -R /a rpool" in text


def test_a_system_on_a_ram_disk() -> None:
    ramdisk, var = Mount("/devices/ramdisk:a", "/", "ufs"), Mount("zones/var", "/var", "zfs")
    commands = ways(text_for(root=ramdisk, var=var))[MEDIA]
    assert "ramdisk" not in " ".join(commands)
    assert commands == [
        "mkdir -p /a",
        "zpool import -f -N -R /a zones",
        "mkdir -p /a/var",
        "mount -F zfs zones/var /a/var",
        "mv -f /a/var/ld/ld.config /a/var/ld/ld.config.broken",
        "umount /a/var",
        "zpool export zones",
        "reboot",
    ]
