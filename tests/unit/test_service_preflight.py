"""service_preflight.py and live_probe.py: the method started as svc.startd starts it, and a program of each ABI."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from memproxy_sol import live_probe
from memproxy_sol.commands import ENVIRONMENT, SECONDS, Ran, Shell
from memproxy_sol.errors import CommandError, SmfError
from memproxy_sol.probe import Outcome, Probe, Prober
from memproxy_sol.root import Root
from memproxy_sol.service_preflight import check_method

PROGRAM = "/usr/local/bin/memproxy-sol"


class Once(Shell):
    """Answers one command, and keeps what it was."""

    def __init__(
        self, status: int = 96, out: str = "memproxy-sol: SMF_EXIT_ERR_CONFIG (96): x\n", err: str = ""
    ) -> None:
        self.ended = (status, out, err)
        self.command: tuple[str, ...] = ()
        self.environment: Mapping[str, str] = {}

    def run(
        self, command: Sequence[str], *, seconds: float = SECONDS, environment: Mapping[str, str] = ENVIRONMENT
    ) -> Ran:
        self.command, self.environment = tuple(command), environment
        assert seconds == 60
        return Ran(self.command, *self.ended)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(str(tmp_path))


def test_shell_words_and_environment_are_the_restarters(root: Root, tmp_path: Path) -> None:
    (tmp_path / "etc/default").mkdir(parents=True)
    (tmp_path / "etc/default/init").write_text('# x\nTZ=UTC\nCMASK=022\nLANG="C"\nno line\nLD_NOCONFIG=\nA B=1\n')
    shell = Once()
    assert check_method(shell, "/opt/a b/it's (1)", root, "web") is None
    assert shell.command == ("/sbin/sh", "-c", r"exec /opt/a\ b/it\'s\ \(1\) verify --smf")
    assert shell.environment == {
        "PATH": "/usr/sbin:/usr/bin",
        "SMF_FMRI": "svc:/site/memproxy:default",
        "SMF_METHOD": "start",
        "SMF_RESTARTER": "svc:/system/svc/restarter:default",
        "SMF_ZONENAME": "web",
        "TZ": "UTC",
        "LANG": "C",
        "LD_NOCONFIG": "yes",
    }


@pytest.mark.parametrize("status", [0, 96, 100])
def test_an_answer_of_the_methods_own_is_well_whatever_it_found(root: Root, status: int) -> None:
    assert check_method(Once(status, f"x\nmemproxy-sol: SMF_EXIT_X ({status}): y\n"), PROGRAM, root) is None


@pytest.mark.parametrize(
    ("status", "out", "err", "severity", "words"),
    [
        (
            127,
            "",
            "/sbin/sh[1]: exec: /x: not found\n",
            "error",
            "ends with status 127: /sbin/sh[1]: exec: /x: not found",
        ),
        (126, "", "cannot execute\n", "error", "ends with status 126: cannot execute"),
        (1, "", "Traceback\nImportError: no x\n", "error", "ends with status 1: Traceback / ImportError: no x"),
        (2, "", "usage: x\n", "error", "ends with status 2: usage: x"),
        (120, "", "", "error", "ends with status 120: it said nothing"),
        (-9, "", "ld.so.1: sh: fatal: /x\n", "error", "is ended by signal 9: ld.so.1: sh: fatal: /x"),
        (0, "", "", "error", "is another program than memproxy-sol"),
        (0, "hello\n", "", "error", "is another program than memproxy-sol"),
        (95, "memproxy-sol: SMF_EXIT_ERR_FATAL (95): slow\n", "", "warning", "answers: memproxy-sol: .* slow"),
        (99, "memproxy-sol: SMF_EXIT_ERR_NOSMF (99): x\n", "", "warning", "answers: memproxy-sol: .* x"),
    ],
)
def test_everything_else_is_a_finding_with_its_reason(
    root: Root, status: int, out: str, err: str, severity: str, words: str
) -> None:
    finding = check_method(Once(status, out, err), PROGRAM, root)
    assert finding is not None
    assert (finding.identifier, finding.severity, finding.where) == ("service-method", severity, PROGRAM)
    assert words.partition(" .* ")[0] in finding.text
    assert words.rpartition(" .* ")[2] in finding.text


def test_a_method_that_does_not_end_is_a_finding(root: Root) -> None:
    class Slow(Once):
        def run(self, command: Sequence[str], **options: object) -> Ran:  # type: ignore[override]
            raise CommandError("has not ended after 60 seconds and was killed", where="sh")

    finding = check_method(Slow(), PROGRAM, root)
    assert finding is not None
    assert "has not ended after 60 seconds" in finding.text


def test_a_program_that_the_restarter_does_not_protect_from_the_shell_is_refused(root: Root) -> None:
    shell = Once()
    with pytest.raises(SmfError, match=r"does not protect \$ from the shell"):
        check_method(shell, "/opt/$HOME/x", root)
    assert shell.command == ()


def elf(bits: int) -> bytes:
    head = b"\x7fELF" + bytes([1 if bits == 32 else 2, 1, 1]) + bytes(9)
    return head + struct.pack("<HHI", 2, 3 if bits == 32 else 62, 1) + bytes(40)


def test_a_program_of_each_abi_is_looked_for_among_harmless_ones(root: Root, tmp_path: Path) -> None:
    assert live_probe.program_of(root, 32) is None
    (tmp_path / "usr/bin/amd64").mkdir(parents=True)
    (tmp_path / "usr/bin/true").write_bytes(b"#!/usr/bin/sh\n")  # as on Solaris 10
    (tmp_path / "usr/bin/ls").write_bytes(elf(32))
    (tmp_path / "usr/bin/amd64/ls").write_bytes(elf(64))
    assert live_probe.program_of(root, 32) == ("/usr/bin/ls", "-d", "/")
    assert live_probe.program_of(root, 64) == ("/usr/bin/amd64/ls", "-d", "/")


def test_an_abi_without_a_program_that_we_know_is_a_note(root: Root) -> None:
    class Never(Prober):
        def run(self, probe: Probe, environment: Mapping[str, str], seconds: float = 0) -> Outcome:
            raise AssertionError

    (finding,) = live_probe.findings(root, [32], Never())
    assert (finding.identifier, finding.severity) == ("probe-missing", "note")
