"""Live facts: what a running system's commands say, how they fail and lie, and what is made of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import STEPS

from memproxy_sol import preflight
from memproxy_sol.abi import ABI32, ABI64
from memproxy_sol.commands import ENVIRONMENT, Ran, Shell
from memproxy_sol.errors import CommandError, HostError
from memproxy_sol.hosts import solaris, solaris_live
from memproxy_sol.hosts.solaris import SolarisFacts, abis_of
from memproxy_sol.hosts.solaris_live import LiveFacts, Mount
from memproxy_sol.ld_config import Variable, encode, layout_for, new
from memproxy_sol.policy import Policy
from memproxy_sol.root import Root

MNTTAB = "rpool/ROOT/be\t/\tzfs\trw,dev=1\t0\nswap\t/tmp\ttmpfs\txattr\t0\n"
SAID = {
    "/usr/bin/uname -s": "SunOS\n",
    "/usr/bin/uname -r -v": "5.11 illumos-1a2b3c\n",
    "/usr/bin/isainfo": "amd64 i386\n",
    "/usr/bin/zonename": "global\n",
    "/usr/bin/crle": "\nDefault configuration file (/var/ld/ld.config) not found\n  Platform:\t32-bit LSB 80386\n"
    "  Default Library Path (ELF):\t/lib:/usr/lib  (system default)\n"
    "  Trusted Directories (ELF):\t/lib/secure:/usr/lib/secure  (system default)\n",
    "/usr/bin/crle -64": "\nDefault configuration file (/var/ld/64/ld.config) not found\n"
    "  Platform:\t64-bit LSB AMD64\n  Default Library Path (ELF):\t/lib/64:/usr/lib/64  (system default)\n"
    "  Trusted Directories (ELF):\t/lib/secure/64:/usr/lib/secure/64  (system default)\n",
}


class Says(Shell):
    """Commands that say what they are told to; a number is a status with no word, an exception is raised."""

    def __init__(self, **changes: str | int | CommandError) -> None:
        self.said: dict[str, str | int | CommandError] = {**SAID}
        self.missing: set[str] = set()
        self.said.update(changes)

    def run(self, command: Sequence[str], *, seconds: float = 30, environment: Mapping[str, str] = ENVIRONMENT) -> Ran:
        said = self.said.get(" ".join(command), CommandError("is not on this system", where=command[0]))
        if isinstance(said, CommandError):
            raise said
        if isinstance(said, int):
            return Ran(tuple(command), said, "", "it broke\n" if said else "")
        return Ran(tuple(command), 0, said, "")

    def has(self, program: str) -> bool:
        return program not in self.missing

    def but(self, command: str, said: str | int | CommandError) -> Says:
        self.said[command] = said
        return self


@pytest.fixture
def root(tmp_path: Path) -> Root:
    for directory in (
        "etc/zones",
        "etc/svc/profile/site",
        "lib/svc/manifest/site",
        "usr/local",
        "var/ld/64",
        "var/opt",
    ):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/release").write_text("  OpenIndiana Hipster 2024.04 X86\n")
    (tmp_path / "etc/mnttab").write_text(MNTTAB)
    return Root(str(tmp_path), live=True)


def read(root: Root, shell: Shell | None = None, tolerant: bool = False) -> SolarisFacts:
    return solaris.read(root, shell=shell or Says(), tolerant=tolerant)


def live_of(facts: SolarisFacts) -> LiveFacts:
    assert facts.live is not None
    return facts.live


def found(facts: SolarisFacts) -> list[tuple[str, str]]:
    return [(finding.identifier, finding.where) for finding in live_of(facts).findings]


def write(root: Root, path: str, text: str | bytes) -> None:
    target = Path(root.path + path)
    target.write_bytes(text if isinstance(text, bytes) else text.encode())


def test_all_is_well(root: Root) -> None:
    facts = read(root)
    live = live_of(facts)
    assert found(facts) == []
    assert (facts.release, facts.machine.name, live.bits, live.zone) == ("illumos", "x86", (32, 64), "global")
    assert [mount.point for mount in live.mounts] == ["/", "/tmp"]
    assert [live.displays[bits].version for bits in (32, 64)] == [None, None]


def test_images_are_asked_nothing(root: Root) -> None:
    class Fails(Shell):
        def run(
            self, command: Sequence[str], *, seconds: float = 30, environment: Mapping[str, str] = ENVIRONMENT
        ) -> Ran:
            raise AssertionError(command)

    assert solaris.read(Root(root.path), shell=Fails()).live is None
    assert solaris.read(root).live is None


# Which kind of host


def test_another_system_is_refused(root: Root) -> None:
    for tolerant in (False, True):
        with pytest.raises(HostError, match=r"the running system is Linux.*--root DIR"):
            read(root, Says().but("/usr/bin/uname -s", "Linux\n"), tolerant)


@pytest.mark.parametrize(
    "answer", [CommandError("is not on this system", where="/usr/bin/uname"), 1, "", " \n"], ids=str
)
def test_a_system_that_does_not_tell_is_refused_unless_it_is_to_be_undone(
    answer: str | int | CommandError, root: Root
) -> None:
    shell = Says().but("/usr/bin/uname -s", answer)
    with pytest.raises(HostError, match="so it cannot be told what kind of system this is"):
        read(root, shell)
    assert found(read(root, shell, tolerant=True)) == [("host-command", "/usr/bin/uname")]


@pytest.mark.parametrize(
    ("words", "release", "smartos"),
    [
        ("5.10 Generic_150401-16", "10", False),
        ("5.10 Generic_Virtual", "10", False),
        ("5.11 11.4.42.0.0.111.0", "11.4", False),
        ("5.11 11.3", "11", False),
        ("5.11 11.0", "11", False),
        ("5.11 omnios-r151046-0b3a5e7", "illumos", False),
        ("5.11 illumos-4f2d1e", "illumos", False),
        ("5.11 oi_151a9", "illumos", False),
        ("5.11 joyent_20240101T000000Z", "illumos", True),
        ("5.11", "illumos", False),
        ("5.8 Generic", None, False),
        ("6.0 x", None, False),
    ],
)
def test_release_by_uname(words: str, release: str | None, smartos: bool, root: Root) -> None:
    live = solaris_live.read(root, Says().but("/usr/bin/uname -r -v", f"{words}\n"))
    assert (live.release, live.smartos) == (release, smartos)


def test_release_without_a_release_file_is_unames(root: Root) -> None:
    Path(root.path, "etc/release").unlink()
    facts = read(root, Says().but("/usr/bin/uname -r -v", "5.11 11.4.1\n"))
    assert (facts.release, facts.sources["release"]) == ("11.4", "/usr/bin/uname")


def test_a_release_file_of_nobody_we_know_leaves_it_to_uname(root: Root) -> None:
    write(root, "/etc/release", "V9OS 3\n")
    assert read(root, Says().but("/usr/bin/uname -r -v", "5.10 Generic\n")).release == "10"


def test_release_file_and_uname_disagree(root: Root) -> None:
    facts = read(root, Says().but("/usr/bin/uname -r -v", "5.10 Generic_1\n"))
    assert facts.release == "illumos"
    assert ("release-disagrees", "/etc/release") in found(facts)


@pytest.mark.parametrize("command", ["/usr/bin/uname -r -v", "/usr/bin/isainfo", "/usr/bin/zonename"])
@pytest.mark.parametrize(
    "answer", [CommandError("has not ended after 30 seconds and was killed", where="x"), 1, 0, "\n"], ids=str
)
def test_a_command_that_fails_is_a_finding_and_the_files_decide(
    command: str, answer: str | int | CommandError, root: Root
) -> None:
    facts = read(root, Says().but(command, answer))
    assert found(facts) == [("host-command", command.split()[0])]
    assert (facts.release, facts.machine.name) == ("illumos", "x86")


# ABIs


def test_abis_of_sparc(root: Root) -> None:
    shell = Says().but("/usr/bin/isainfo", "sparcv9 sparc\n")
    shell.missing.add("/usr/bin/crle")
    facts = read(root, shell)
    assert (facts.machine.name, facts.sources["machine"]) == ("sparc", "/usr/bin/isainfo")
    assert abis_of(facts, None) == (ABI32, ABI64)


def test_what_the_kernel_cannot_run_is_not_configured(root: Root) -> None:
    facts = read(root, Says().but("/usr/bin/isainfo", "i386\n"))
    assert abis_of(facts, None) == (ABI32,)
    with pytest.raises(HostError, match="has no 64-bit ABI, only 32-bit"):
        abis_of(facts, (64,))
    assert list(live_of(facts).displays) == [32]


@pytest.mark.parametrize("words", ["vax", "amd64 sparc", "\x1b[2J" * 50])
def test_isainfo_lies(words: str, root: Root) -> None:
    facts = read(root, Says().but("/usr/bin/isainfo", words))
    assert found(facts) == [("host-command", "/usr/bin/isainfo")]
    assert (live_of(facts).machine, live_of(facts).bits) == (None, ())
    assert "\x1b" not in live_of(facts).findings[0].text


# Zones

INDEX = (
    "# zones\nglobal:installed:/\nweb:running:/zones/web:11-22\n:x\nodd\ndb:installed:/zones/db/\nlx:running:relative\n"
)


def test_zones_of_the_global_zone(root: Root) -> None:
    write(root, "/etc/zones/index", INDEX)
    facts = read(root)
    assert [(z.name, z.root) for z in live_of(facts).zones] == [("web", "/zones/web/root"), ("db", "/zones/db/root")]
    findings = solaris_live.obstacles(root, live_of(facts), "/usr/local", ())
    assert [(f.identifier, f.severity) for f in findings] == [("zones-untouched", "note")]


def test_within_a_zone_nothing_is_said_of_zones(root: Root) -> None:
    write(root, "/etc/zones/index", INDEX)
    live = live_of(read(root, Says().but("/usr/bin/zonename", "web\n")))
    assert (live.zone, live.zones) == ("web", ())


@pytest.mark.parametrize("name", ["two words", "-z", "../etc", "x" * 70, "a\nb"])
def test_zonename_lies(name: str, root: Root) -> None:
    facts = read(root, Says().but("/usr/bin/zonename", name))
    assert (live_of(facts).zone, found(facts)) == (None, [("host-command", "/usr/bin/zonename")])


# The mount table


def mounted(root: Root, *lines: str) -> SolarisFacts:
    write(root, "/etc/mnttab", MNTTAB + "".join(f"{line}\t0\n" for line in lines))
    return read(root)


def test_mounted_with_the_root(root: Root) -> None:
    assert mounted(root).mounted_later("/usr/local/lib/memproxy") is None
    assert mounted(root).mounted_later("/tmp/x") == "/tmp"
    assert mounted(root).mounted_later("/home/x") == "/home"


@pytest.mark.parametrize(
    ("lines", "directory", "mount"),
    [
        ((), "/opt/x", None),
        (("rpool/local\t/usr/local\tzfs\trw",), "/usr/local/lib", "/usr/local"),
        (("rpool/local\t/usr/local\tzfs\trw",), "/usr/localx/lib", None),
        (("rpool/opt\t/opt\tzfs\trw",), "/opt", "/opt"),
        (("/dev/x\t/usr\tufs\trw",), "/usr/local/lib", "/usr"),
        # A /var of its own: until it is mounted there is no configuration, so what is there with it is early enough.
        (("rpool/var\t/var\tzfs\trw",), "/usr/local/lib", None),
        (("rpool/var\t/var\tzfs\trw",), "/var/memproxy", None),
        (("rpool/var\t/var\tzfs\trw", "/dev/x\t/usr\tufs\trw"), "/usr/local/lib", None),
        (("rpool/var\t/var\tzfs\trw", "rpool/opt\t/opt\tzfs\trw"), "/opt/x", "/opt"),
        (("rpool/var\t/var\tzfs\trw", "rpool/vx\t/var/x\tzfs\trw"), "/var/x/y", "/var/x"),
        # A lofs mount in the global zone comes from vfstab.
        (("/export/local\t/usr/local\tlofs\trw",), "/usr/local/lib", "/usr/local"),
        # Mounted over: the later line counts.
        (("a\t/opt\tzfs\trw", "b\t/opt\tzfs\trw"), "/opt/x", "/opt"),
    ],
)
def test_what_the_first_readers_can_see(lines: tuple[str, ...], directory: str, mount: str | None, root: Root) -> None:
    facts = mounted(root, *lines)
    assert facts.mounted_later(directory) == mount
    forbidden = [
        f for f in preflight.check_host(facts, Policy(prefix=directory), ()) if f.identifier.startswith("pref")
    ]
    assert [f.identifier for f in forbidden] == ([] if mount is None else ["prefix-not-on-root"])


def test_links_are_resolved_before_the_table_is_asked(root: Root) -> None:
    Path(root.path, "opt").mkdir()
    Path(root.path, "usr/local").rmdir()
    Path(root.path, "usr/local").symlink_to("../opt")
    assert mounted(root, "rpool/opt\t/opt\tzfs\trw").mounted_later("/usr/local/lib") == "/opt"


def test_what_zoneadm_mounts_is_there_before_the_zones_first_process(root: Root) -> None:
    write(root, "/etc/mnttab", MNTTAB + "/usr/local\t/usr/local\tlofs\tro\t0\nrpool/d\t/opt\tzfs\trw\t0\n")
    facts = read(root, Says().but("/usr/bin/zonename", "web\n"))
    assert facts.mounted_later("/usr/local/lib") is None
    assert facts.mounted_later("/opt/x") == "/opt"


def test_vfstab_counts_only_where_there_is_no_mount_table(root: Root) -> None:
    write(root, "/etc/vfstab", "rpool/x\t-\t/usr/local\tzfs\t-\tyes\t-\n")
    assert mounted(root).mounted_later("/usr/local") is None
    Path(root.path, "etc/mnttab").unlink()
    assert read(root).mounted_later("/usr/local") == "/usr/local"


def test_a_mount_that_the_table_does_not_show(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = mounted(root)
    real = Root.stat

    class Elsewhere:
        st_dev = -1

    def stat(self: Root, path: str) -> object:
        return Elsewhere() if path == "/usr/local" else real(self, path)

    monkeypatch.setattr(Root, "stat", stat)
    assert facts.mounted_later("/usr/local/lib") == "/usr/local"


HOSTILE = (
    "only\ttwo\n"
    "special\trelative\tzfs\trw\t0\n"
    "special\t/a/../usr\tzfs\trw\t0\n"
    "special\t/usr//local\tzfs\trw\t0\n"
    "tab\tin\tthe\tname\t/x\tzfs\trw\t0\n"
    "\t/etc\t\t\t\n"
    "blank in name\t/my disk - x\tpcfs\trw\t0\n"
)


def test_hostile_lines_of_the_mount_table(root: Root) -> None:
    write(root, "/etc/mnttab", MNTTAB.encode() + HOSTILE.encode() + b"\xff\xfe\0\n")
    facts = read(root)
    assert [m.point for m in live_of(facts).mounts] == ["/", "/tmp", "/etc", "/my disk - x"]
    (finding,) = live_of(facts).findings
    assert (finding.identifier, finding.text) == ("mount-table", "has 6 lines that cannot be understood")


def test_mount_p_where_there_is_no_mnttab(root: Root) -> None:
    Path(root.path, "etc/mnttab").unlink()
    lines = "rpool/ROOT/be - / zfs - no rw,dev=1\nswap - /tmp tmpfs - no xattr\nrpool/o - /opt/my disk zfs - no \n"
    facts = read(root, Says().but("/sbin/mount -p", lines))
    assert [(m.special, m.point, m.kind) for m in live_of(facts).mounts] == [
        ("rpool/ROOT/be", "/", "zfs"),
        ("swap", "/tmp", "tmpfs"),
        ("rpool/o", "/opt/my disk", "zfs"),
    ]
    assert found(facts) == []
    facts = read(root, Says().but("/sbin/mount -p", "nonsense\n"))
    assert found(facts) == [("mount-table", "/sbin/mount")]


def test_no_mount_table_at_all(root: Root) -> None:
    Path(root.path, "etc/mnttab").unlink()
    facts = read(root, Says())
    assert (live_of(facts).mounts, found(facts)) == ((), [("host-command", "/sbin/mount")])
    assert facts.mounted_later("/usr/local") is None


def test_a_mount_table_that_is_a_pipe(root: Root) -> None:
    Path(root.path, "etc/mnttab").unlink()
    os.mkfifo(Path(root.path, "etc/mnttab"))
    assert found(read(root)) == [("host-command", "/etc/mnttab"), ("host-command", "/sbin/mount")]


# What forbids a change


def test_a_prefix_that_the_next_boot_loses(root: Root) -> None:
    """SmartOS: the global zone runs from a ram disk, /var is on disk."""
    lines = "/devices/ramdisk:a\t/\tufs\trw\t0\nzones/var\t/var\tzfs\trw\t0\n"
    write(root, "/etc/mnttab", lines)
    live = live_of(read(root, Says().but("/usr/bin/uname -r -v", "5.11 joyent_20240101T000000Z\n")))
    (finding,) = solaris_live.obstacles(root, live, "/usr/local/lib/memproxy", ())
    assert (finding.identifier, finding.severity) == ("prefix-volatile", "error")
    assert "/var/memproxy" in finding.hint
    assert solaris_live.obstacles(root, live, "/var/memproxy/lib/memproxy", ()) == ()


def test_live_media_lose_configuration_and_prefix_together(root: Root) -> None:
    write(root, "/etc/mnttab", "/devices/ramdisk:a\t/\tufs\trw\t0\n")
    assert solaris_live.obstacles(root, live_of(read(root)), "/usr/local", ()) == ()


def test_read_only_file_systems(root: Root) -> None:
    facts = mounted(root, "x\t/usr\tzfs\tro,dev=2", "y\t/etc\tzfs\trw,ro")
    findings = solaris_live.obstacles(root, live_of(facts), "/usr/local/none/yet", ("/etc", "/var/ld"))
    assert [(f.identifier, f.where) for f in findings] == [("read-only", "/usr/local/none/yet"), ("read-only", "/etc")]


def test_read_only_is_asked_of_the_kernel_too(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadOnly:
        f_flag = 1

    monkeypatch.setattr(solaris_live.os, "statvfs", lambda path: ReadOnly())
    live = live_of(read(root, Says().but("/usr/bin/zonename", "web\n")))
    (finding,) = solaris_live.obstacles(root, live, "/usr/local", ())
    assert finding.identifier == "read-only"
    assert "zoneadm -z web boot -w" in finding.hint


def test_preflight_has_what_the_commands_said(root: Root) -> None:
    shell = Says()
    shell.missing.add("/usr/bin/crle")
    findings = preflight.check_host(read(root, shell), Policy(), ())
    assert ("crle-missing", "warning") in [(f.identifier, f.severity) for f in findings]


# crle's display and our decoder


def test_the_displays_recorded_say_what_our_decoder_says(root: Root) -> None:
    """Every recorded display, the file put in the place of the default one: no disagreement."""
    checked = 0
    for step in STEPS:
        if step.writes or step.exit or step.stderr or step.before is None or step.letters - {"c", "6"}:
            continue
        abi, command = (ABI64, "/usr/bin/crle -64") if step.layout.bits == 64 else (ABI32, "/usr/bin/crle")
        write(root, abi.config_path, step.before)
        shown = step.stdout.replace(f"]: {step.file}  ", f"]: {abi.config_path}  ", 1)
        facts = read(root, Says().but(command, shown))
        if facts.configs[abi.bits].config is not None:
            assert found(facts) == [], step
            checked += 1
        Path(root.path + abi.config_path).unlink()
    assert checked > 100


CONFIG = replace(
    new(layout_for(solaris.X86, 32)), library_path=("/lib", "/usr/lib"), environment=(Variable("LD_PRELOAD=/a", 2),)
)
SHOWN = (
    "\nConfiguration file [version 4]: /var/ld/ld.config  \n  Platform:\t32-bit LSB 80386\n"
    "  Default Library Path (ELF):\t/lib:/usr/lib\n"
    "  Trusted Directories (ELF):\t/lib/secure:/usr/lib/secure  (system default)\n\n"
    "Environment Variables:\n  LD_PRELOAD=/a  (permanent)\n\nCommand line:\n  crle -c x\n\n"
)


def test_the_display_of_a_file(root: Root) -> None:
    write(root, "/var/ld/ld.config", encode(CONFIG))
    facts = read(root, Says().but("/usr/bin/crle", SHOWN))
    assert found(facts) == []
    assert live_of(facts).displays[32].library_path == ("/lib", "/usr/lib")


@pytest.mark.parametrize(
    ("old", "now", "words"),
    [
        ("\t/lib:/usr/lib\n", "\t/lib\n", "another library_path than memproxy-sol reads (/lib, not /lib:/usr/lib)"),
        ("/a", "/b", "another environment than memproxy-sol reads (LD_PRELOAD=/b, not LD_PRELOAD=/a)"),
        ("permanent", "replaceable", "another environment"),
        ("version 4", "version 3", "another version"),
        ("LSB 80386", "MSB SPARC", "another layout"),
        ("\nCommand", "\nMemory Reservation:\tff00 - ff80 (80 bytes)\n\nCommand", "another reservation"),
        (SHOWN, SAID["/usr/bin/crle"], "no file where there is one"),
    ],
)
def test_crle_and_our_decoder_disagree(old: str, now: str, words: str, root: Root) -> None:
    write(root, "/var/ld/ld.config", encode(CONFIG))
    changed = SHOWN.replace(old, now)
    assert changed != SHOWN
    (finding,) = live_of(read(root, Says().but("/usr/bin/crle", changed))).findings
    assert (finding.identifier, finding.severity, finding.where) == ("crle-disagrees", "error", "/var/ld/ld.config")
    assert words in finding.text
    assert finding in preflight.check_host(read(root, Says().but("/usr/bin/crle", changed)), Policy(), ())


def test_crle_shows_a_file_where_none_is(root: Root) -> None:
    (finding,) = live_of(read(root, Says().but("/usr/bin/crle", SHOWN))).findings
    assert "a file where none can be read" in finding.text


def test_solaris_10_shows_no_platform(root: Root) -> None:
    write(root, "/etc/release", "Solaris 10 1/13 s10x_u11wos_24a X86\n")
    write(root, "/var/ld/ld.config", encode(replace(CONFIG, identified=False)))
    shell = Says().but("/usr/bin/uname -r -v", "5.10 Generic_1\n")
    assert found(read(root, shell.but("/usr/bin/crle", SHOWN.replace("  Platform:\t32-bit LSB 80386\n", "")))) == []


def test_a_file_that_somebody_changes_in_between_is_read_again(root: Root) -> None:
    class Changes(Says):
        def run(
            self, command: Sequence[str], *, seconds: float = 30, environment: Mapping[str, str] = ENVIRONMENT
        ) -> Ran:
            if command == ("/usr/bin/crle",):
                write(root, "/var/ld/ld.config", encode(CONFIG))
            return super().run(command)

    assert found(read(root, Changes().but("/usr/bin/crle", SHOWN))) == []


@pytest.mark.parametrize(
    "answer",
    [1, 0, "nonsense\n", SHOWN[:60], CommandError("has not ended after 30 seconds and was killed", where="crle")],
    ids=["status", "silence", "nonsense", "cut off", "hangs"],
)
def test_a_crle_that_cannot_be_understood(answer: str | int | CommandError, root: Root) -> None:
    write(root, "/var/ld/ld.config", encode(CONFIG))
    facts = read(root, Says().but("/usr/bin/crle", answer))
    assert found(facts) == [("crle-unreadable", "/var/ld/ld.config")]
    assert list(live_of(facts).displays) == [64]


def test_a_file_that_neither_understands_has_its_finding_already(root: Root) -> None:
    write(root, "/var/ld/ld.config", b"garbage")
    facts = read(root, Says().but("/usr/bin/crle", 1))
    assert found(facts) == []
    assert facts.configs[32].problem


def test_a_value_of_two_lines_is_not_compared(root: Root) -> None:
    config = replace(CONFIG, environment=(Variable("A=b  (permanent)\n  B=c", 2),))
    write(root, "/var/ld/ld.config", encode(config))
    shown = SHOWN.replace("LD_PRELOAD=/a", "A=b  (permanent)\n  B=c")
    assert found(read(root, Says().but("/usr/bin/crle", shown))) == []


def test_no_crle(root: Root) -> None:
    shell = Says()
    shell.missing.add("/usr/bin/crle")
    assert found(read(root, shell)) == [("crle-missing", "/usr/bin/crle")]


def test_mounts_that_a_table_without_root_cannot_place() -> None:
    live = LiveFacts(mounts=(Mount("x", "/opt", "zfs"),))
    assert live.mount_over("/usr") is None
    assert live.mounted_later("/usr") is None
