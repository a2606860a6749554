"""The crle command: what it shows and writes is believed only where the file proves it; answers are recorded ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import LAYOUTS, OBJECT_CACHE, STEPS, Step

from memproxy_sol import crle, crle_display
from memproxy_sol.abi import ABI32, ABI64, ABIS
from memproxy_sol.commands import ENVIRONMENT, Ran, Shell
from memproxy_sol.crle import Crle
from memproxy_sol.errors import CommandError, CrleError, CrleOptionsError
from memproxy_sol.ld_config import LdConfig, Variable, decode, encode, new
from memproxy_sol.record import RUN_DIRECTORY
from memproxy_sol.root import Root

TARGET = f"{RUN_DIRECTORY}/candidate/ld.config.32"
X86 = LAYOUTS["32"]
PLAIN = replace(new(X86), library_path=("/lib", "/usr/lib", "/opt/lib"), environment=(Variable("LD_PRELOAD_32=/p", 2),))


class Answers(Shell):
    """Answers with what it is told, and writes a file if it is told to."""

    def __init__(
        self, root: Root, status: int = 0, out: str = "", err: str = "", written: bytes | None = None, mode: int = 0o644
    ) -> None:
        self.root = root
        self.answer = (status, out, err)
        self.written = written
        self.mode = mode
        self.asked: list[tuple[str, ...]] = []

    def run(self, command: Sequence[str], *, seconds: float = 30, environment: Mapping[str, str] = ENVIRONMENT) -> Ran:
        self.asked.append(tuple(command))
        if self.written is not None:
            path = Path(self.root.host_path(command[command.index("-c") + 1]))
            path.write_bytes(self.written)
            path.chmod(self.mode)
        return Ran(tuple(command), *self.answer)

    def has(self, program: str) -> bool:
        return True


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / TARGET[1:]).parent.mkdir(parents=True)
    for directory in (tmp_path / RUN_DIRECTORY[1:], (tmp_path / TARGET[1:]).parent):
        directory.chmod(0o755)
    return Root(str(tmp_path), live=True)


def name(step: Step) -> str:
    return f"{step.vector}-{STEPS.index(step)}"


def typed(step: Step) -> list[str]:
    """The step's options but for the name of the file and the ABI."""
    return [word for letter, argument in step.options if letter not in "c6v" for word in (f"-{letter}", argument)]


def asked(config: LdConfig) -> list[str]:
    arguments = crle.command_line(config, "f")
    return list(arguments[arguments.index("-c") + 2 :])


CREATED = [
    step
    for step in STEPS
    if step.exit == 0
    and step.writes
    and not {"u", "t"} & step.letters
    and step.vector not in OBJECT_CACHE
    and step.after is not None
    and asked(decode(step.after)) == typed(step)
]
"""Runs that made a file anew from the very words which we would type for its value."""
SHOWN = [
    step
    for step in STEPS
    if not step.writes
    and step.exit >= 0
    and not step.letters - {"c", "6"}
    and sum(o[0] == "c" for o in step.options) < 2
]


def test_enough_recordings_are_typed_as_we_would() -> None:
    assert (len(CREATED), len(SHOWN)) == (102, 222)


@pytest.mark.parametrize("step", CREATED, ids=name)
def test_writes_what_was_recorded(step: Step, root: Root) -> None:
    assert step.after is not None
    shell = Answers(root, step.exit, step.stdout, step.stderr, step.after, mode=0o600)
    assert Crle(shell, root).write(ABIS[step.layout.bits], decode(step.after), TARGET) == step.after
    flag = ("-64",) if step.layout.bits == 64 else ()
    assert shell.asked == [(crle.PROGRAM, *flag, "-c", TARGET, *typed(step))]
    state = root.read(TARGET)
    assert state is not None
    assert (state.data, state.mode) == (step.after, 0o644)


@pytest.mark.parametrize("step", SHOWN, ids=name)
def test_shows_what_was_recorded(step: Step, root: Root) -> None:
    path = next((argument for letter, argument in step.options if letter == "c"), None)
    abi = ABIS[64 if "6" in step.letters else 32]
    asked_for = abi.config_path if path is None else path
    command = Crle(Answers(root, step.exit, step.stdout, step.stderr), root)
    if step.exit == 0 and (f"]: {asked_for}  " in step.stdout or f"({asked_for}) not found" in step.stdout):
        assert command.display(abi, path) == crle_display.parse_display(step.stdout)
        return
    with pytest.raises(CrleError) as caught:
        command.display(abi, path)
    first = step.stderr.split("\n")[0] if step.exit else "was asked for"
    assert first.strip() in str(caught.value)


def test_a_display_of_another_file_is_not_believed(root: Root) -> None:
    """Section 2.7: the 64-bit twin shows its own default where the 32-bit default file calls itself 64-bit."""
    step = next(s for s in SHOWN if s.stdout.startswith("\nDefault configuration file (/var/ld/64/ld.config)"))
    with pytest.raises(CrleError, match=r"shows /var/ld/64/ld\.config where /var/ld/ld\.config was asked for"):
        Crle(Answers(root, 0, step.stdout), root).display(ABI32)


def test_words_with_status_0_are_a_failure(root: Root) -> None:
    with pytest.raises(CrleError, match="ended with status 0: crle: mmap failed"):
        Crle(Answers(root, 0, "", "crle: mmap failed: Bad address\n"), root).display(ABI64)
    shell = Answers(root, 0, "", "crle: warning: A: multiply-defined\n", encode(PLAIN))
    with pytest.raises(CrleError, match="multiply-defined"):
        Crle(shell, root).write(ABI32, PLAIN, TARGET)
    assert root.read(TARGET) is None


# What is written is judged


def wrong(**changes: object) -> bytes:
    return encode(replace(PLAIN, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("release", "written", "words"),
    [
        ("illumos", None, "ended with status 0 without writing"),
        ("illumos", b"", "cannot be decoded"),
        ("illumos", encode(PLAIN)[:-8], "cannot be decoded"),
        ("illumos", wrong(library_path=("/lib", "/usr/lib")), "another library_path.*/lib:/usr/lib instead of"),
        ("illumos", wrong(trusted_directories=("/x",)), "another trusted_directories.*/x instead of none"),
        ("illumos", wrong(environment=None), "another environment.*none instead of LD_PRELOAD_32=/p"),
        ("illumos", wrong(environment=(Variable("LD_PRELOAD_32=/p", 1),)), "another environment"),
        ("illumos", wrong(flags=0), "another flags"),
        ("illumos", wrong(identified=False), "without identification block"),
        ("illumos", encode(PLAIN) + bytes(4), "bytes that are not the format's"),
        ("10", encode(PLAIN), "with identification block, not as release 10"),
        ("10", wrong(identified=False, library_path=("/lib",)), "another library_path"),
        ("11.4", wrong(library_path=("/lib", "/usr/lib")), "another library_path"),
    ],
)
def test_what_is_not_asked_for_is_refused_and_removed(
    release: str, written: bytes | None, words: str, root: Root
) -> None:
    if written is not None:
        (Path(root.host_path(TARGET))).write_bytes(b"old")
    with pytest.raises(CrleError, match=words):
        Crle(Answers(root, written=written), root, release).write(ABI32, PLAIN, TARGET)
    assert root.read(TARGET) is None


@pytest.mark.parametrize(
    ("release", "written"),
    [
        ("10", wrong(identified=False)),
        ("11", wrong()),
        ("11.4", wrong(identified=False)),
        ("11.4", wrong(version=3)),
        ("11.4", encode(PLAIN) + bytes(4)),
    ],
)
def test_other_releases_are_judged_by_value(release: str, written: bytes, root: Root) -> None:
    shell = Answers(root, written=written)
    assert Crle(shell, root, release).write(ABI32, PLAIN, TARGET) == written


class Later(Answers):
    """A crle of a later format, which nobody here can decode; it shows its file as `shown`."""

    def __init__(self, root: Root, shown: str) -> None:
        super().__init__(root, written=encode(PLAIN).replace(b"\x04\0\0\0", b"\x05\0\0\0", 1))
        self.shown = shown

    def run(self, command: Sequence[str], *, seconds: float = 30, environment: Mapping[str, str] = ENVIRONMENT) -> Ran:
        if len(command) == 3:
            return Ran(tuple(command), 0, self.shown, "")
        return super().run(command, seconds=seconds, environment=environment)


LATER = (
    f"\nConfiguration file [version 5]: {TARGET}\n  Platform:\t32-bit LSB 80386\n"
    "  Default Library Path:\t/lib:/usr/lib:/opt/lib\n"
    "  Trusted Directories:\t/lib/secure:/usr/lib/secure  (system default)\n\n"
    "Environment Variables:\n  LD_PRELOAD_32=/p  (permanent)\n\nCommand line:\n  crle -c x\n\n"
)


def test_a_format_of_11_4_that_nobody_can_decode_is_judged_by_its_display(root: Root) -> None:
    shell = Later(root, LATER)
    assert Crle(shell, root, "11.4").write(ABI32, PLAIN, TARGET) == shell.written
    with pytest.raises(CrleError, match="cannot be decoded"):
        Crle(shell, root, "illumos").write(ABI32, PLAIN, TARGET)


@pytest.mark.parametrize(
    ("old", "now", "words"),
    [
        (":/opt/lib", "", "another library_path"),
        ("permanent", "replaceable", "another environment"),
        ("LSB 80386", "MSB SPARC", "for 32-bit MSB SPARC"),
        (TARGET, "/var/ld/ld.config", "shows /var/ld/ld.config"),
        ("Command line", "Something", "line 10 of its display"),
    ],
)
def test_a_display_that_says_something_else_is_refused(old: str, now: str, words: str, root: Root) -> None:
    changed = LATER.replace(old, now)
    assert changed != LATER
    with pytest.raises(CrleError, match=words):
        Crle(Later(root, changed), root, "11.4").write(ABI32, PLAIN, TARGET)
    assert root.read(TARGET) is None


# What cannot be typed


@pytest.mark.parametrize(
    ("release", "config", "words"),
    [
        ("illumos", replace(PLAIN, library_path=("/a", "/b", "/a")), "library_path"),
        ("illumos", replace(PLAIN, environment=(Variable("A=1"), Variable("A=2"))), "environment"),
        ("illumos", replace(PLAIN, environment=(Variable("A=" + "x" * 120_000),)), "more than a command can be given"),
        ("11.4", replace(PLAIN, aout_library_path=("/a",)), "AOUT"),
    ],
)
def test_nothing_is_run_for_what_the_options_cannot_say(release: str, config: LdConfig, words: str, root: Root) -> None:
    shell = Answers(root)
    with pytest.raises(CrleOptionsError, match=words):
        Crle(shell, root, release).write(ABI32, config, TARGET)
    assert shell.asked == []


ODD = ("/a b", "/tab\there", "/it's", '/"q"', "/né", "/\udcff", "/$ORIGIN", "/back\\slash", "/a\nb", "-l", "")


@pytest.mark.parametrize("odd", ODD[:-1])
def test_odd_names_are_arguments_as_they_are(odd: str, root: Root) -> None:
    config = replace(PLAIN, library_path=("/lib", odd), environment=(Variable(f"LD_PRELOAD_32={odd}", 2),))
    shell = Answers(root, written=encode(config))
    Crle(shell, root).write(ABI32, config, TARGET)
    assert shell.asked[0][-4:] == ("-l", f"/lib:{odd}", "-E", f"LD_PRELOAD_32={odd}")


# Where it may write


@pytest.mark.parametrize(
    "path",
    [
        "/var/ld/ld.config",
        "/var/ld/64/ld.config",
        "/var/run/memproxy/../../ld/ld.config",
        "/var/run/memproxy",
        "/var/run/memproxy/link/ld.config",
        "/var/run/memproxy/none/ld.config",
        "ld.config",
        "/etc/x",
    ],
)
def test_crle_is_never_let_near_a_live_file(path: str, root: Root) -> None:
    (Path(root.path) / "var/ld").mkdir(parents=True)
    live = Path(root.path) / "var/ld/ld.config"
    live.write_bytes(b"live")
    (Path(root.path) / "var/run/memproxy/link").symlink_to("/var/ld")
    shell = Answers(root, written=b"new")
    with pytest.raises(CrleError, match="crle removes a file before it writes it"):
        Crle(shell, root).write(ABI32, PLAIN, path)
    assert shell.asked == []
    assert live.read_bytes() == b"live"


@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_a_link_to_a_live_file_is_removed_before_crle_writes(kind: str, root: Root) -> None:
    live = Path(root.path) / "var/ld/ld.config"
    live.parent.mkdir(parents=True)
    live.write_bytes(b"live")
    target = Path(root.host_path(TARGET))
    target.symlink_to(live) if kind == "link" else target.hardlink_to(live)
    Crle(Answers(root, written=encode(PLAIN)), root).write(ABI32, PLAIN, TARGET)
    assert live.read_bytes() == b"live"


def test_a_directory_that_others_can_change_is_refused(root: Root) -> None:
    Path(root.host_path(RUN_DIRECTORY)).chmod(0o777)
    with pytest.raises(CrleError, match="/var/run/memproxy: is not a directory that only root can change"):
        Crle(Answers(root, written=encode(PLAIN)), root).write(ABI32, PLAIN, TARGET)


def test_something_that_cannot_be_replaced(root: Root) -> None:
    Path(root.host_path(TARGET)).mkdir()
    with pytest.raises(CrleError, match="cannot be replaced"):
        Crle(Answers(root, written=encode(PLAIN)), root).write(ABI32, PLAIN, TARGET)


def test_the_value_must_be_of_the_abi(root: Root) -> None:
    with pytest.raises(CrleError, match="the value is 32-bit, the file 64-bit"):
        Crle(Answers(root), root).write(ABI64, PLAIN, TARGET)


def test_a_crle_that_cannot_be_run(root: Root) -> None:
    class Hangs(Answers):
        def run(
            self, command: Sequence[str], *, seconds: float = 30, environment: Mapping[str, str] = ENVIRONMENT
        ) -> Ran:
            super().run(command)
            raise CommandError("has not ended after 30 seconds and was killed", where="crle")

    with pytest.raises(CommandError, match="30 seconds"):
        Crle(Hangs(root, written=b"half"), root).write(ABI32, PLAIN, TARGET)
    assert root.read(TARGET) is None
