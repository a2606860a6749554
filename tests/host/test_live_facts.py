"""Live facts and crle in the laboratory: what its commands say, and how they fail, through the real code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memproxy_sol import crle_display
from memproxy_sol.abi import ABIS, X86
from memproxy_sol.crle import Crle
from memproxy_sol.errors import CommandError, CrleError, CrleOptionsError, HostError
from memproxy_sol.hosts import solaris
from memproxy_sol.hosts.solaris import SolarisFacts
from memproxy_sol.hosts.solaris_live import CRLE, ISAINFO, MOUNT, UNAME, ZONENAME, LiveFacts
from memproxy_sol.ld_config import LdConfig, Variable, decode, encode, layout_for, new
from memproxy_sol.record import RUN_DIRECTORY
from memproxy_sol.root import Root
from tests.host import live as lives
from tests.host.laboratory import Laboratory
from tests.host.laboratory.system import Fault
from tests.host.live import Live
from tests.images import CONFIG

COMMANDS = (UNAME, ISAINFO, ZONENAME, MOUNT, CRLE)
CANDIDATE = f"{RUN_DIRECTORY}/candidate"


def read(live: Live, tolerant: bool = False) -> SolarisFacts:
    return solaris.read(live.root, shell=live.shell, tolerant=tolerant)


def told(facts: SolarisFacts) -> LiveFacts:
    assert facts.live is not None
    return facts.live


def identifiers(facts: SolarisFacts) -> list[str]:
    return [finding.identifier for finding in told(facts).findings]


def test_a_sound_system_has_no_findings(live: Live) -> None:
    facts = read(live)
    assert identifiers(facts) == []
    assert (facts.release, told(facts).release, told(facts).bits, told(facts).zone) == (
        "illumos",
        "illumos",
        (32, 64),
        "global",
    )
    assert told(facts).mounts[0].point == "/"


@pytest.mark.parametrize("release", ["10", "11.4"])
def test_other_releases(
    release: str,
    tmp_path: Path,
    objects: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = lives.build(tmp_path / "live", objects, capsys, monkeypatch, release)
    facts = read(live)
    assert (facts.release, told(facts).release, identifiers(facts)) == (release, release, [])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(missing=True),
        Fault(seconds=3600),
        Fault(status=1, out=b"", err=b"it broke\n"),
        Fault(status=-9, out=b""),
        Fault(status=0, out=b""),
        Fault(status=0, out=b"\xff\xfe\x00\x1b[2J nonsense\n"),
        Fault(status=0, out=b"x" * 100_000),
    ],
    ids=["missing", "slow", "fails", "killed", "silent", "nonsense", "long"],
)
def test_a_command_that_fails_or_lies(command: str, fault: Fault, live: Live) -> None:
    live.lab.faults[command] = fault
    (live / "etc/mnttab").unlink()
    if command == UNAME:
        with pytest.raises(HostError, match=r"so it cannot be told|the running system is"):
            read(live)
    else:
        facts = read(live)
        assert facts.release == "illumos"
        assert len(identifiers(facts)) == (2 if command == CRLE and not fault.missing else 1)
        assert all("\x1b" not in str(finding) for finding in told(facts).findings)


def test_an_uninstall_asks_on_where_nothing_answers(live: Live) -> None:
    (live / "etc/mnttab").unlink()
    for command in COMMANDS:
        live.lab.faults[command] = Fault(missing=True)
    facts = read(live, tolerant=True)
    assert identifiers(facts) == ["host-command"] * 5 + ["crle-missing"]
    assert (facts.release, facts.machine.name) == ("illumos", "x86")


def test_crle_and_our_decoder_agree_on_what_is_installed(live: Live) -> None:
    for bits in (32, 64):
        config = replace(
            new(layout_for(X86, bits)),
            library_path=("/lib", "/opt/a b"),
            trusted_directories=("/usr/lib/secure", "/x"),
            environment=(Variable("LD_BIND_NOW=1", 1), Variable("FOO", 0x1001), Variable("A=  (permanent)", 3)),
        )
        live.write(CONFIG[bits], encode(config))
    facts = read(live)
    assert identifiers(facts) == []
    for bits in (32, 64):
        config_of = facts.configs[bits].config
        assert config_of is not None
        assert told(facts).displays[bits] == crle_display.shown(config_of, ABIS[bits].config_path)


def test_a_crle_that_shows_another_value_is_found_out(live: Live) -> None:
    live.write(CONFIG[64], encode(replace(new(layout_for(X86, 64)), library_path=("/lib/64", "/x"))))
    shown = live.lab.execute([CRLE, "-64"]).out.replace(b"/x", b"/y")
    live.lab.faults[CRLE] = Fault(out=shown, when=lambda argv: "-64" in argv)
    assert identifiers(read(live)) == ["crle-disagrees"]


# crle writes


def values(bits: int) -> dict[str, LdConfig]:
    bare = new(layout_for(X86, bits))
    directory = f"/usr/local/lib/memproxy/0123456789abcdef{'/64' if bits == 64 else ''}"
    ours = Variable(f"LD_PRELOAD_{bits}={directory}/libmemproxy.so:{directory}/liballoc.so", 2)
    abi = ABIS[bits]
    trusted = (*abi.default_trusted_directories, directory)
    return {
        "ours": replace(bare, trusted_directories=trusted, environment=(ours,)),
        "others": replace(
            bare,
            library_path=(*abi.default_library_path, "/opt/lib"),
            trusted_directories=trusted,
            environment=(Variable("LD_LIBRARY_PATH=/x:/y", 1), Variable("LD_BIND_NOW", 2), ours),
        ),
        "odd names": replace(
            bare,
            library_path=(
                "/a b",
                "/tab\there",
                "/it's",
                '/"q"',
                "/n\u00e9",
                "/\udcff",
                "/$ORIGIN",
                "/back\\slash",
                "/-l",
            ),
            environment=(Variable("A=new\nline", 2), Variable("=x", 1), Variable("", 1), ours),
        ),
        "flags": replace(bare, environment=(Variable("A=1", 0x1001), Variable("B=2", 3))),
        "doubled by their text": replace(bare, library_path=("/usr/lib", "/lib", "/lib")),
        "long": replace(bare, library_path=tuple(f"/opt/{number:0100}" for number in range(500))),
        "empty": bare,
        "aout": replace(bare, aout_library_path=("/a",), trusted_directories=trusted),
    }


@pytest.fixture
def place(live: Live) -> Live:
    for path in (RUN_DIRECTORY, CANDIDATE):
        (live / path[1:]).mkdir(mode=0o755)
    return live


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("what", sorted(values(32)))
def test_crle_writes_the_value(what: str, bits: int, place: Live) -> None:
    config = values(bits)[what]
    path = f"{CANDIDATE}/ld.config.{bits}"
    data = Crle(place.shell, place.root).write(ABIS[bits], config, path)
    written = decode(data)
    assert (written.library_path, written.trusted_directories) == (config.library_path, config.trusted_directories)
    assert [v.text for v in written.environment or ()] == [v.text for v in config.environment or ()]
    assert [v.permanent for v in written.environment or ()] == [v.permanent for v in config.environment or ()]
    assert (place / path[1:]).read_bytes() == data
    assert not (place / CONFIG[bits]).exists()


@pytest.mark.parametrize("library_path", [("/a", "/b", "/a"), ("/a", "", "/b"), ()])
def test_what_crle_would_drop_is_not_typed(library_path: tuple[str, ...], place: Live) -> None:
    config = replace(new(layout_for(X86, 32)), library_path=library_path)
    place.lab.calls.clear()
    with pytest.raises(CrleOptionsError, match="library_path"):
        Crle(place.shell, place.root).write(ABIS[32], config, f"{CANDIDATE}/ld.config.32")
    assert place.lab.calls == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(works=False), "without writing"),
        (Fault(works=False, status=1, err=b"crle: /x: open failed\n"), "status 1: crle: /x: open failed"),
        (Fault(status=1), "status 1"),
        (Fault(err=b"crle: warning: something\n"), "something"),
        (Fault(status=-11), "ended by signal 11"),
    ],
    ids=["nothing", "error", "status", "words", "signal"],
)
def test_a_crle_that_fails_leaves_nothing(fault: Fault, words: str, place: Live) -> None:
    place.lab.faults[CRLE] = fault
    with pytest.raises(CrleError, match=words):
        Crle(place.shell, place.root).write(ABIS[64], values(64)["ours"], f"{CANDIDATE}/ld.config.64")
    assert list((place / CANDIDATE[1:]).iterdir()) == []


def test_a_crle_that_hangs_leaves_nothing(place: Live) -> None:
    place.lab.faults[CRLE] = Fault(seconds=3600)
    with pytest.raises(CommandError, match="has not ended after 30 seconds"):
        Crle(place.shell, place.root).write(ABIS[64], values(64)["ours"], f"{CANDIDATE}/ld.config.64")
    assert list((place / CANDIDATE[1:]).iterdir()) == []


def test_solaris_10_writes_without_identification(tmp_path: Path) -> None:
    lab = Laboratory(tmp_path / "ten", "10")
    (tmp_path / f"ten{CANDIDATE}").mkdir(parents=True)
    for path in (RUN_DIRECTORY, CANDIDATE):
        (tmp_path / f"ten{path}").chmod(0o755)
    root = Root(str(tmp_path / "ten"), live=True)
    config = values(32)["ours"]
    data = Crle(lives.LaboratoryShell(lab), root, "10").write(ABIS[32], config, f"{CANDIDATE}/ld.config.32")
    assert data[:4] != b"?RLC"
    assert decode(data, layout=config.layout) == replace(config, identified=False)
