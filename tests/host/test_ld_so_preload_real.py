"""/etc/ld.so.preload in every state, before the real runtime linkers of this machine: what they load, what they say."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest

from memproxy_sol import ld_so_preload
from memproxy_sol.hosts.linux import Loader
from tests import needs
from tests.host import private_preload
from tests.host.private_preload import NOBODY, Outcome, Trial
from tests.preload_files import PLACE, STATES, A

BITS = (32, 64)
SOURCE = Path(__file__).with_name("loaded.c")
COMPLAINT = re.compile(
    rb"ERROR: ld\.so: object '([^\n]*?)' from /etc/ld\.so\.preload cannot be preloaded \(([^\n]*)\): ignored\.\n"
)
EITHER = pytest.mark.parametrize("bits", BITS)
PROGRAMS = ("loaded", "set-id")
Files = dict[str, tuple[Path, int]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A program of each ABI, the same as a set-id program, and three libraries of each."""
    reason = private_preload.obstacle()
    if reason:
        pytest.skip(reason)
    made = tmp_path_factory.mktemp("preload")
    placed: Files = {}
    for bits in BITS:
        program = needs.compile_program(SOURCE, bits, made / f"loaded-{bits}")
        placed[f"loaded-{bits}"] = (program, 0o755)
        placed[f"set-id-{bits}"] = (program, 0o4755)
        library = made / f"empty-{bits}.so"
        compiler = ["gcc", f"-m{bits}", "-shared", "-fPIC", "-nostdlib", "-x", "c", "-", "-o", str(library)]
        subprocess.run(compiler, input=b"int memproxy_nothing;\n", check=True)
        for name in "abc":
            placed[f"g/{needs.loader(bits).lib}/{name}.so"] = (library, 0o644)
        placed[f"g/{bits}.so"] = (library, 0o644)
        placed[f"g/secret-{bits}.so"] = (library, 0o600)
    placed["g/text.so"] = (SOURCE, 0o644)
    return placed


def start(bits: int, program: str = "loaded", data: bytes = b"", kind: str = "file", mode: int = 0o644) -> Trial:
    """A start of the program: as root, or for the set-id program as a user without rights."""
    return Trial((f"/mnt/{program}-{bits}",), data, kind, mode, NOBODY if program == "set-id" else 0)


def loaded(outcome: Outcome) -> list[bytes]:
    """The preloaded objects, in order."""
    return [line for line in outcome.out.splitlines() if line.startswith((b"/mnt/", b"./", b"g/"))]


def complaints(outcome: Outcome) -> list[tuple[bytes, bytes]]:
    """Each object that was not preloaded, with the reason; nothing else was said."""
    assert COMPLAINT.sub(b"", outcome.err) == b""
    return COMPLAINT.findall(outcome.err)


def expected(data: bytes, loader: Loader, files: Files) -> tuple[list[bytes], list[bytes]]:
    """What our own reading of the file says: paths loaded, items complained of."""
    objects, said = {}, []
    for item in ld_so_preload.parse(data):
        path = ld_so_preload.expand(item.text, loader.lib, None, "none")
        place = None if path is None else str(Path(path).resolve().relative_to("/mnt")) if path[:5] == "/mnt/" else None
        if path is not None and place in files:
            objects.setdefault(place, path.encode())
        else:
            said.append(item.text.encode("utf-8", "surrogateescape"))
    return list(objects.values()), said


@EITHER
@pytest.mark.parametrize("program", PROGRAMS)
def test_each_state_is_read_as_the_runtime_linker_reads_it(bits: int, program: str, files: Files) -> None:
    outcomes = private_preload.run(files, [start(bits, program, state.data) for state in STATES])
    loader = needs.loader(bits)
    seen = {
        state.name: (outcome.status, loaded(outcome), [text for text, _ in complaints(outcome)])
        for state, outcome in zip(STATES, outcomes)
    }
    own_directory = {"token of the program": (0, [], [b"$ORIGIN/x.so"])}
    assert seen == {state.name: (0, *expected(state.data, loader, files)) for state in STATES} | own_directory


@EITHER
def test_random_files_are_read_as_the_runtime_linker_reads_them(bits: int, files: Files) -> None:
    # Nothing of that name exists, so that each item is told.
    random_bytes = random.Random(bits)
    contents = [
        bytes(random_bytes.choices(alphabet, k=random_bytes.randrange(1, 60)))
        for alphabet in (b"x/\n#", b" \t\n:##\n\0xy/\r\xe9\xff", bytes(range(256)))
        for _ in range(150)
    ]
    outcomes = private_preload.run(files, [start(bits, data=data) for data in contents])
    for data, outcome in zip(contents, outcomes):
        items = [item.text.encode("utf-8", "surrogateescape") for item in ld_so_preload.parse(data)]
        assert ([text for text, _ in complaints(outcome)], loaded(outcome)) == (items, []), data


@EITHER
def test_tokens_lead_where_expand_says(bits: int, files: Files) -> None:
    loader = needs.loader(bits)
    told = subprocess.run([loader.path, "--list-diagnostics"], capture_output=True, text=True, check=False).stdout
    platform = re.search(r'^dl_platform="([^"\\]+)"$', told, re.MULTILINE)
    if platform is None:
        pytest.skip("this runtime linker does not tell its platform")
    items = [
        *(
            f"{PLACE}/{token}/x.so"
            for token in ("$LIB", "${LIB}", "$LIBX", "${LIB", "$LIB_", "$LIB9", "$", "$$LIB", "$lib")
        ),
        *(f"{PLACE}/{token}.so" for token in ("$PLATFORM", "${PLATFORM}", "$PLATFORM-x", "a$LIB-$PLATFORM")),
        *(f"{token}/o.so" for token in ("$ORIGIN", "${ORIGIN}/g", "$ORIGIN/$LIB")),
    ]
    paths = [ld_so_preload.expand(item, loader.lib, "/mnt", platform[1]) for item in items]
    library = files[f"g/{bits}.so"]
    # All of them are there, so that only those are complained of that lead elsewhere; each file is another one.
    there = {str(path).removeprefix("/mnt/"): library for path in paths}
    (outcome,) = private_preload.run({**files, **there}, [start(bits, data="\n".join(items).encode())])
    assert complaints(outcome) == []
    assert loaded(outcome) == list(dict.fromkeys(str(path).encode() for path in paths))
    assert len(loaded(outcome)) == len(items) - 2


@EITHER
def test_what_put_and_strip_leave_is_loaded_as_they_promise(bits: int, files: Files) -> None:
    ours = f"{PLACE}/$LIB/c.so"
    before = [state for state in STATES if ours not in [item.text for item in ld_so_preload.parse(state.data)]]
    contents = {}
    for state in before:
        try:
            contents[state.name] = (state.data, ld_so_preload.put(state.data, [ours]))
        except ld_so_preload.PreloadFileError:
            continue
    assert len(contents) > 38
    pairs = list(contents.values())
    without = private_preload.run(files, [start(bits, data=data) for data, _ in pairs])
    with_ours = private_preload.run(files, [start(bits, data=data) for _, data in pairs])
    path = ours.replace("$LIB", needs.loader(bits).lib).encode()
    for one, other in zip(without, with_ours):
        assert complaints(one) == complaints(other)
        assert [*loaded(one), path] == loaded(other)


@EITHER
@pytest.mark.parametrize(
    ("name", "kind", "data"),
    [
        ("a directory", "directory", b""),
        ("a dangling link", "link", b"/no/where"),
        ("a link to itself", "link", b"/etc/ld.so.preload"),
        ("a device", "link", b"/dev/zero"),
        ("a file without a size", "link", b"/proc/self/environ"),
        ("absent", "absent", b""),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_what_is_no_regular_file_loads_nothing_and_says_nothing(
    name: str, kind: str, data: bytes, bits: int, files: Files
) -> None:
    (outcome,) = private_preload.run(files, [start(bits, data=data, kind=kind)])
    assert (outcome.status, outcome.err, loaded(outcome)) == (0, b"", []), name


@EITHER
def test_a_link_is_followed(bits: int, files: Files, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(A)
    with_target = {**files, "target": (target, 0o644)}
    (outcome,) = private_preload.run(with_target, [start(bits, data=b"/mnt/target", kind="link")])
    assert len(loaded(outcome)) == 1


@EITHER
def test_a_fifo_stops_every_program_that_may_read_it(bits: int, files: Files) -> None:
    command = (f"/mnt/loaded-{bits}",)
    for_all, for_root = private_preload.run(
        files, [Trial(command, kind="fifo"), Trial(command, kind="fifo", mode=0o600, user=NOBODY)]
    )
    assert (for_all.waited, for_all.status, for_all.err) == (True, 0, b"")
    assert (for_root.waited, for_root.status, for_root.err) == (False, 0, b"")


@EITHER
def test_a_file_that_only_root_may_read_is_for_roots_processes(bits: int, files: Files) -> None:
    command = (f"/mnt/loaded-{bits}",)
    trials = [Trial(command, A, mode=0o600, user=user) for user in (0, NOBODY)]
    # It is the real user who counts: what a user starts by sudo, or any other set-id program, does without until then.
    trials.append(start(bits, "set-id", A, mode=0o600))
    outcomes = private_preload.run(files, trials)
    assert [len(loaded(outcome)) for outcome in outcomes] == [1, 0, 0]
    assert [outcome.err for outcome in outcomes] == [b"", b"", b""]


@EITHER
def test_an_eight_megabyte_item_without_an_end_kills_every_program(bits: int, files: Files) -> None:
    long = b"/" + b"x" * (8 << 20)
    unended, ended, bare = private_preload.run(
        files, [start(bits, data=data) for data in (long, long + b"\n", b"x" * (9 << 20) + b"\n")]
    )
    assert (unended.status, unended.out) == (-11, b"")
    assert (ended.status, complaints(ended)) == (0, [(long, b"cannot open shared object file")])
    assert (bare.status, bare.out) == (-11, b"")


@EITHER
def test_what_is_said_of_an_item_that_cannot_be_loaded(bits: int, files: Files) -> None:
    other = 96 - bits
    reasons = {
        f"/mnt/g/{other}.so": f"wrong ELF class: ELFCLASS{other}",
        "/mnt/g/none.so": "cannot open shared object file",
        "/mnt/g": "cannot read file data",
        "/mnt/g/text.so": "invalid ELF header",
        "/dev/null": "file too short",
        f"/mnt/g/secret-{bits}.so": "cannot open shared object file",
    }
    said = [(item.encode(), reason.encode()) for item, reason in reasons.items()]
    data = "".join(item + "\n" for item in reasons).encode() + A + b"\n"
    (outcome,) = private_preload.run(files, [Trial((f"/mnt/loaded-{bits}",), data, user=NOBODY)])
    assert complaints(outcome) == said
    assert len(loaded(outcome)) == 1
    # A set-id program of root may read what only root may read.
    (outcome,) = private_preload.run(files, [start(bits, "set-id", data)])
    assert complaints(outcome) == said[:-1]
    assert len(loaded(outcome)) == 2


@EITHER
def test_set_id_programs_load_by_absolute_and_relative_path_but_by_no_name_and_no_place_of_theirs(
    bits: int, files: Files
) -> None:
    data = f"{PLACE}/$LIB/a.so g/{bits}.so $ORIGIN/g/{needs.loader(bits).lib}/b.so libm.so.6\n".encode()
    plain, secure = private_preload.run(files, [start(bits, program, data) for program in PROGRAMS])
    assert complaints(plain) == []
    assert len(loaded(plain)) == 3
    assert b"libm.so.6" in plain.out
    assert [text for text, _ in complaints(secure)] == [data.split()[2], b"libm.so.6"]
    assert len(loaded(secure)) == 2
