"""/etc/ld.so.preload of a running system: real runtime linkers, real programs, set-id ones too; each in a sandbox."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from memproxy_sol import placeholder, resources
from tests import needs
from tests.host import linux_live
from tests.host.linux_live import NOBODY, PRELOAD, Sandbox, until

HERE = Path(__file__).parent
TRUE = "/bin/true"
OTHERS = b"# of others\n/opt/others/$LIB/x.so"
BITS = (32, 64)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of both ABIs that show what was loaded, and libraries that end every process when they are told to."""
    top = tmp_path_factory.mktemp("programs")
    bump = resources.native_sources() / "examples" / "bump_allocator.c"
    for bits in BITS:
        needs.compile_program(HERE / "loaded.c", bits, top / f"loaded-{bits}")
        (top / str(bits)).mkdir()
        shared = ("-shared", "-fPIC", "-O2", str(bump))
        needs.compile_program(HERE / "crashing.c", bits, top / str(bits) / "libcrash.so", *shared)
    return top


@pytest.fixture
def sandbox(programs: Path) -> Iterator[Sandbox]:
    """A running system with a 32-bit program among what is tried."""
    linux_live.needed()
    with Sandbox() as made:
        for bits in BITS:
            for name, mode in ((f"loaded-{bits}", 0o755), (f"set-id-{bits}", 0o4755)):
                place = made / f"/usr/local/bin/{name}"
                place.write_bytes((programs / f"loaded-{bits}").read_bytes())
                place.chmod(mode)
            there = made / f"/opt/others/{needs.loader(bits).lib}/x.so"
            there.parent.mkdir(parents=True)
            there.write_bytes(placeholder.shared_object(bits, needs.loader(bits).machine))
        (made / "/etc/memproxy.toml").write_text('probes = ["/usr/local/bin/loaded-32"]\n')
        yield made


def switches(libraries: Path, crash: Path | None = None) -> list[str]:
    """Those of an install with mimalloc, or with the allocator that crashes."""
    chosen = [needs.allocator("mimalloc", bits) if crash is None else f"{crash}/{bits}/libcrash.so" for bits in BITS]
    return ["--libraries", str(libraries), *(f"--allocator={path}" for path in chosen)]


def ours_loaded(sandbox: Sandbox, program: str, bits: int, user: int = 0) -> list[str]:
    """The files of ours in a process; nobody complains."""
    done = sandbox.run(f"/usr/local/bin/{program}-{bits}", user=user)
    assert (done.status, done.err) == (0, "")
    found = re.findall(rf"^/usr/local/lib/memproxy/[0-9a-f]{{16}}/{needs.loader(bits).lib}/(\S+)$", done.out, re.M)
    assert len(found) == done.out.count("/memproxy/")
    return found


def state(path: Path) -> tuple[int, ...]:
    """What tells whether anybody has touched a file: also the time of the last change to its inode."""
    status = os.lstat(path)
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_nlink


def test_every_program_gets_it_and_loses_it_again(sandbox: Sandbox, linux_libraries: Path) -> None:
    done = sandbox.memproxy("install", *switches(linux_libraries))
    assert done.status == 0, done.err
    assert "trial-failed" not in done.out + done.err
    for bits in BITS:
        for user in (0, NOBODY):
            assert ours_loaded(sandbox, "loaded", bits, user) == ["libmemproxy.so", "libmimalloc.so.2"]
            assert ours_loaded(sandbox, "set-id", bits, user) == ["libmemproxy.so", "libmimalloc.so.2"]
    assert sandbox.run("/usr/bin/passwd", "-S", user=NOBODY).err == "", "a set-id program of the distribution"
    verified = sandbox.memproxy("verify")
    assert verified.status == 0, verified.out
    status = sandbox.memproxy("status")
    assert re.search(r"custom", status.out), status.out
    inode = state(sandbox / PRELOAD)
    again = sandbox.memproxy("install", *switches(linux_libraries))
    assert (again.status, "nothing to do" in again.out) == (0, True)
    assert state(sandbox / PRELOAD) == inode
    gone = sandbox.memproxy("uninstall", "--purge")
    assert gone.status == 0
    assert "error:" not in gone.out + gone.err
    assert "program-fails" not in gone.out
    for path in (PRELOAD, "/usr/local/lib/memproxy", "/var/opt/memproxy", "/etc/memproxy.conf"):
        assert not os.path.lexists(sandbox / path), path
    assert ours_loaded(sandbox, "loaded", 64) == []


def test_others_list_comes_back_byte_for_byte(sandbox: Sandbox, linux_libraries: Path) -> None:
    path = sandbox / PRELOAD
    path.write_bytes(OTHERS)
    os.chown(path, 0, 4)
    path.chmod(0o664)
    os.chown(path, 0, 0)
    os.utime(path, ns=(1_500_000_000_000_000_007, 1_400_000_000_000_000_003))
    before = [*state(path)[1:4], os.stat(path).st_gid]
    assert sandbox.memproxy("install", *switches(linux_libraries)).status == 0
    assert path.read_bytes().startswith(OTHERS + b"\n /usr/local/lib/memproxy/")
    assert sandbox.memproxy("uninstall").status == 0
    assert [*state(path)[1:4], os.stat(path).st_gid] == before
    assert path.read_bytes() == OTHERS


@pytest.mark.parametrize("former", [None, OTHERS], ids=["without a list", "with a list of others"])
def test_a_trial_that_fails_never_touches_the_live_file(
    sandbox: Sandbox, linux_libraries: Path, programs: Path, former: bytes | None
) -> None:
    path = sandbox / PRELOAD
    if former is not None:
        path.write_bytes(former)
        before = state(path)
    (sandbox / "/run/crash").touch()
    with linux_live.Watch(sandbox / "/etc") as watch:
        done = sandbox.memproxy("install", *switches(linux_libraries, programs))
        assert done.status == 1
        assert "trial-failed" in done.err
        assert "ended by signal 6" in done.err
        touched = watch.names()
    assert "memproxy.conf" in touched, "the watch sees what happens there"
    assert os.path.basename(PRELOAD) not in touched
    if former is None:
        assert not os.path.lexists(path)
    else:
        assert state(path) == before
    assert not os.path.lexists(sandbox / "/etc/memproxy.conf")
    assert sandbox.memproxy("verify").status == 3


def test_what_crashes_only_when_it_is_in_force_is_taken_back_at_once(
    sandbox: Sandbox, linux_libraries: Path, programs: Path
) -> None:
    (sandbox / PRELOAD).write_bytes(OTHERS)
    (sandbox / "/run/crash-in").symlink_to(sandbox.namespace())
    done = sandbox.memproxy("install", *switches(linux_libraries, programs))
    assert done.status == 1, done.out
    assert (sandbox / PRELOAD).read_bytes() == OTHERS
    assert sandbox.run(TRUE).status == 0


def test_a_trial_comes_back_by_itself_when_every_program_dies(
    sandbox: Sandbox, linux_libraries: Path, programs: Path
) -> None:
    path = sandbox / PRELOAD
    path.write_bytes(OTHERS)
    os.utime(path, ns=(1, 2))
    done = sandbox.memproxy("install", "--try", "5", *switches(linux_libraries, programs))
    assert done.status == 0, done.err
    assert path.is_symlink()
    (sandbox / "/run/crash").touch()
    assert sandbox.run(TRUE).status == -6
    assert sandbox.memproxy("confirm").status == -6
    until(lambda: not path.is_symlink(), "the former list")
    assert path.read_bytes() == OTHERS
    assert os.stat(path).st_mtime_ns == 2
    assert sandbox.run(TRUE).status == 0
    assert sandbox.memproxy("confirm").status == 1
    assert path.read_bytes() == OTHERS


def test_a_trial_that_is_confirmed_stays(sandbox: Sandbox, linux_libraries: Path) -> None:
    done = sandbox.memproxy("install", "--try", "600", *switches(linux_libraries))
    assert done.status == 0, done.err
    assert (sandbox / PRELOAD).is_symlink()
    assert ours_loaded(sandbox, "set-id", 32, NOBODY) == ["libmemproxy.so", "libmimalloc.so.2"]
    done = sandbox.memproxy("confirm")
    assert done.status == 0, done.err
    assert not (sandbox / PRELOAD).is_symlink()
    assert ours_loaded(sandbox, "loaded", 64) == ["libmemproxy.so", "libmimalloc.so.2"]
    assert sandbox.memproxy("verify").status == 0


@pytest.mark.parametrize("command", ["boot", "install"])
def test_a_reboot_in_the_middle_of_a_trial(sandbox: Sandbox, linux_libraries: Path, command: str) -> None:
    path = sandbox / PRELOAD
    path.write_bytes(OTHERS)
    assert sandbox.memproxy("install", "--try", "600", *switches(linux_libraries)).status == 0
    sandbox.kill_others()
    sandbox.empty("/run")
    assert path.is_symlink()
    assert not path.exists()
    for bits in BITS:
        assert ours_loaded(sandbox, "loaded", bits) == []
    if command == "boot":
        done = sandbox.memproxy("verify", "--boot")
        assert path.read_bytes() == OTHERS, done
        assert not path.is_symlink()
    else:
        done = sandbox.memproxy("install", *switches(linux_libraries))
        assert done.status == 0, done.err
        assert path.read_bytes().startswith(OTHERS)
        assert sandbox.memproxy("uninstall").status == 0
        assert path.read_bytes() == OTHERS


def test_without_the_right_to_a_namespace_it_says_what_was_not_tried(
    sandbox: Sandbox, linux_libraries: Path, programs: Path
) -> None:
    limited = ("/usr/bin/setpriv", "--bounding-set=-sys_admin")
    done = sandbox.memproxy("install", *switches(linux_libraries), before=limited)
    assert done.status == 0, done.err
    assert "trial-not-tried: the candidates: could not be tried before the change: no mount namespace" in done.out
    assert ours_loaded(sandbox, "loaded", 32) == ["libmemproxy.so", "libmimalloc.so.2"]
    former = (sandbox / PRELOAD).read_bytes()
    # What crashes is then seen when it is in force, and taken back.
    (sandbox / "/run/crash").touch()
    done = sandbox.memproxy("install", *switches(linux_libraries, programs), before=limited)
    assert done.status == 1
    assert (sandbox / PRELOAD).read_bytes() == former
    assert sandbox.run(TRUE).status == 0


@pytest.mark.parametrize("count", [3, 7, 8])
def test_killed_in_the_middle(sandbox: Sandbox, linux_libraries: Path, count: int) -> None:
    path = sandbox / PRELOAD
    path.write_bytes(OTHERS)
    strace = ("strace", "-qq", "-e", "trace=rename", "-e", f"inject=rename:signal=KILL:when={count}", "-o", "/run/log")
    done = sandbox.memproxy("install", *switches(linux_libraries), before=strace)
    assert done.status in (-9, 137), done
    for bits in BITS:
        ours_loaded(sandbox, "loaded", bits)
    sandbox.memproxy("verify")
    assert sandbox.memproxy("uninstall").status == 0
    assert path.read_bytes() == OTHERS
    assert not path.is_symlink()


def commands(text: str, section: str) -> list[str]:
    """The indented lines of a section of the rescue text."""
    (found,) = [part for part in re.split(r"^(?=\d\. )", text, flags=re.M) if part.startswith(section)]
    return [line.strip() for line in found.partition("\nThen,")[0].splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("section", ["1.", "2."])
@pytest.mark.parametrize("former", [None, OTHERS], ids=["without a list", "with a list of others"])
def test_what_rescue_says_is_typed_when_every_program_dies(
    sandbox: Sandbox, linux_libraries: Path, programs: Path, former: bytes | None, section: str
) -> None:
    path = sandbox / PRELOAD
    if former is not None:
        path.write_bytes(former)
    assert sandbox.memproxy("install", *switches(linux_libraries, programs)).status == 0
    text = (sandbox / "/etc/memproxy-rescue.txt").read_text()
    assert sandbox.memproxy("rescue").out == text
    typed = commands(text, section)
    assert typed
    if section == "1.":
        # A shell that still lives, in which programs have begun to die.
        script = "\n".join([": > /run/crash", "/bin/true; echo $?", *typed, "echo $?"])
        done = sandbox.run("/bin/sh", "-c", script, environment={"PATH": "/usr/bin:/bin"})
        assert done.out.split() == ["134", "0"], done
    else:
        (sandbox / "/run/crash").touch()
        assert sandbox.run(TRUE).status == -6
        for command in typed:
            # This machine is the rescue media.
            assert os.system(command.replace("/mnt", str(sandbox / ""))) == 0
    assert sandbox.run(TRUE).status == 0
    assert (path.read_bytes() if path.exists() else b"") == (former or b"")
    done = sandbox.memproxy("uninstall", "--purge")
    assert done.status == 0, done.err
    assert (path.read_bytes() if path.exists() else b"") == (former or b"")
