"""A Solaris image configured, changed by others, and put back: the main job, end to end with real objects."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from memproxy_sol import abi, files, journal, lock, preloads
from memproxy_sol.ld_config import LdConfig, Variable, decode, encode, layout_for, new
from tests.images import CONFIG, Image

LAYOUTS = {bits: layout_for(abi.X86, bits) for bits in (32, 64)}


def config_of(image: Image, bits: int) -> LdConfig:
    return decode((image / CONFIG[bits]).read_bytes(), layout=LAYOUTS[bits])


def made(bits: int, **fields: Any) -> bytes:
    """A configuration file of somebody else."""
    return encode(dataclasses.replace(new(LAYOUTS[bits]), **fields))


def names(image: Image, bits: int, secure: bool = False) -> list[tuple[str, str]]:
    data = (image / CONFIG[bits]).read_bytes()
    return [(item.name, item.verdict) for item in preloads.effective(data, LAYOUTS[bits], (), secure).preloads]


def test_both_abis_are_configured_and_verified(image: Image) -> None:
    assert image.install("--bits", "32,64") == 0, image.err
    generation = "/" + str(image.generation().relative_to(image.path))
    for bits, sub in ((32, ""), (64, "/64")):
        config = config_of(image, bits)
        wanted = [f"{generation}{sub}/libmemproxy.so", f"{generation}{sub}/liballoc.so"]
        assert names(image, bits) == [(name, "try") for name in wanted]
        assert names(image, bits, secure=True) == [(name, "try") for name in wanted]
        assert config.library_path is None
        assert config.trusted_directories == (*abi.ABIS[bits].default_trusted_directories, generation + sub)
        (variable,) = config.environment or ()
        assert variable.permanent
        assert variable.name == f"LD_PRELOAD_{bits}"
        for name in wanted:
            path = image / name[1:]
            assert path.stat().st_mode & 0o7777 == 0o644
            assert path.read_bytes() == (image.objects / sub[1:] / path.name).read_bytes()
    assert (image / "etc/memproxy.conf").read_bytes().startswith(b"# Exclusion list")
    assert (image / "lib/svc/manifest/site/memproxy.xml").exists()
    assert b'enabled="true"' in (image / "etc/svc/profile/site/memproxy.xml").read_bytes().replace(b"'", b'"')
    assert image.run("verify") == 0
    assert "ok: 32-bit and 64-bit" in image.out
    assert "error" not in image.out


def test_a_second_install_changes_neither_bytes_nor_inodes(installed: Image) -> None:
    before = installed.snapshot(inodes=True)
    assert installed.install("--bits", "32,64") == 0
    assert "nothing to do" in installed.out
    assert installed.snapshot(inodes=True) == before


def test_purge_leaves_the_image_as_it_was(image: Image) -> None:
    before = image.snapshot()
    assert image.install() == 0
    assert image.snapshot() != before
    assert image.run("uninstall", "--purge") == 0
    assert image.snapshot() == before


def times(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_atime_ns


def test_uninstall_puts_owner_mode_and_times_back(image: Image) -> None:
    former = {bits: image.write(CONFIG[bits], made(bits, library_path=("/lib", "/opt/lib"))) for bits in (32, 64)}
    for path in former.values():
        os.chown(path, 0, 3)
        path.chmod(0o744)
    before = image.snapshot()
    for path in former.values():
        os.utime(path, ns=(1_500_000_000_000_000_007, 1_400_000_000_000_000_003))
    assert image.install() == 0, image.err
    assert all(times(path)[0] > 1_500_000_000_000_000_007 for path in former.values()), "what is new has a new time"
    assert image.install(allocator="libother.so") == 0
    assert image.run("uninstall", "--purge") == 0
    for path in former.values():
        assert times(path) == (1_400_000_000_000_000_003, 1_500_000_000_000_000_007)
    assert image.snapshot() == before


def test_purge_of_an_empty_directory_leaves_it_empty(empty: Image) -> None:
    assert empty.install("--host", "solaris", "--bits", "32,64") == 0, empty.err
    assert "from the default" in empty.out
    assert empty.run("verify") == 0
    assert empty.run("uninstall", "--purge") == 0
    assert list(empty.path.iterdir()) == []


def test_uninstall_keeps_the_libraries_and_purge_takes_them_later(installed: Image) -> None:
    generation = installed.generation()
    assert installed.run("uninstall") == 0
    assert not (installed / CONFIG[32]).exists()
    assert not (installed / "lib/svc/manifest/site/memproxy.xml").exists()
    assert (generation / "libmemproxy.so").exists()
    assert installed.run("verify") == 3
    assert "not-installed" in installed.out
    assert installed.run("uninstall", "--purge") == 0
    assert not generation.exists()
    assert not (installed / "var/opt").exists()


def test_an_abi_that_is_not_named_is_left_alone(image: Image) -> None:
    assert image.install("--bits", "64") == 0
    assert not (image / CONFIG[32]).exists()
    assert image.run("verify") == 0
    assert "abi-not-configured: 32-bit" in image.out
    assert image.install("--bits", "32") == 0
    first = (image / CONFIG[64]).read_bytes()
    assert b"libmemproxy" in first
    assert image.run("uninstall", "--bits", "32") == 0
    assert not (image / CONFIG[32]).exists()
    assert (image / CONFIG[64]).read_bytes() == first
    assert (image / "lib/svc/manifest/site/memproxy.xml").exists()


def others(bits: int) -> dict[str, bytes]:
    """Configurations that somebody had before us, by situation."""
    suffixed = f"LD_PRELOAD_{bits}"
    define = Variable.define
    return {
        "search path": made(bits, library_path=("/lib", "/usr/lib", "/opt/lib")),
        "trusted": made(bits, trusted_directories=("/usr/lib/secure", "/opt/secure")),
        "replaceable plain": made(bits, environment=(define("LD_PRELOAD", "libplain.so", False),)),
        "replaceable suffixed": made(bits, environment=(define(suffixed, "libplain.so", False),)),
        "permanent plain": made(bits, environment=(define("LD_PRELOAD", "libplain.so", True),)),
        "permanent suffixed": made(bits, environment=(define(suffixed, "libplain.so", True),)),
        "permanent both": made(
            bits,
            environment=(define("LD_PRELOAD", "/lib/x", True), define(suffixed, "libplain.so  ", True)),
        ),
        "two permanent plain": made(
            bits, environment=(define("LD_PRELOAD", "/lib/x", True), define("LD_PRELOAD", "libplain.so", True))
        ),
        "empty suffixed": made(bits, environment=(define(suffixed, "", True), define("LD_BIND_NOW", "1", True))),
        "other variables": made(bits, environment=(define("LD_BIND_NOW", "1", True), define("FOO", None, False))),
        "other abi": made(bits, environment=(define(f"LD_PRELOAD_{96 - bits}", "/no/such", True),)),
        "header only": made(bits),
        "no identification block": encode(new(LAYOUTS[bits], identified=False)),
    }


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("situation", sorted(others(32)))
@pytest.mark.parametrize("replaceable", [False, True])
def test_nothing_of_others_is_lost_and_uninstall_restores_the_bytes(
    image: Image, bits: int, situation: str, replaceable: bool
) -> None:
    data = others(bits)[situation]
    image.write(CONFIG[bits], data)
    if replaceable:
        image.write("etc/memproxy.toml", b"replaceable = true\n")
    before = preloads.effective(data, LAYOUTS[bits])
    snapshot = image.snapshot()
    assert image.install("--bits", str(bits)) == 0, image.err
    after = preloads.effective((image / CONFIG[bits]).read_bytes(), LAYOUTS[bits])
    theirs = [item for item in after.preloads if "/lib/memproxy/" not in item.name]
    assert [item.name for item in theirs] == [item.name for item in before.preloads]
    assert len(after.preloads) == len(before.preloads) + 2
    assert after.library_path == before.library_path
    assert after.trusted_directories[: len(before.trusted_directories)] == before.trusted_directories
    for slot in ("replaceable", "permanent"):
        kept = {k: v for k, v in getattr(before, slot).items() if k != "LD_PRELOAD"}
        assert {k: v for k, v in getattr(after, slot).items() if k != "LD_PRELOAD"} == kept
    assert after.switches == before.switches
    assert image.run("verify") == 0, image.out
    assert image.run("uninstall", "--purge") == 0
    assert image.snapshot() == snapshot


@pytest.mark.parametrize("bits", [32, 64])
def test_uninstall_keeps_what_others_changed_since(image: Image, bits: int) -> None:
    image.write(CONFIG[bits], made(bits, library_path=("/lib", "/usr/lib")))
    assert image.install("--bits", str(bits)) == 0
    now = config_of(image, bits)
    changed = dataclasses.replace(
        now,
        library_path=("/lib", "/usr/lib", "/opt/new"),
        environment=(*(now.environment or ()), Variable.define("LD_BIND_NOW", "1", True)),
    )
    (image / CONFIG[bits]).write_bytes(encode(changed))
    assert image.run("verify") == 0
    assert "config-changed" in image.out
    assert image.run("uninstall", "--purge") == 0
    left = config_of(image, bits)
    assert left.library_path == ("/lib", "/usr/lib", "/opt/new")
    assert left.trusted_directories is None
    assert [v.text for v in left.environment or ()] == ["LD_BIND_NOW=1"]


def test_an_upgrade_switches_the_generation_and_uninstall_goes_back_to_the_first_state(image: Image) -> None:
    image.write(CONFIG[32], made(32, library_path=("/lib", "/usr/lib", "/opt/lib")))
    before = image.snapshot()
    assert image.install() == 0
    first = image.generation()
    assert image.install(allocator="libother.so") == 0
    assert first.exists(), "a generation stays until nothing names or maps it"
    assert b"libother.so" in (image / CONFIG[32]).read_bytes()
    assert first.name.encode() not in (image / CONFIG[32]).read_bytes()
    assert image.run("verify") == 0, image.out
    assert image.run("uninstall", "--purge") == 0
    assert image.snapshot() == before


def test_an_upgrade_over_somebody_elses_change_keeps_it(installed: Image) -> None:
    now = config_of(installed, 64)
    changed = dataclasses.replace(
        now, environment=(*(now.environment or ()), Variable.define("LD_BIND_NOW", "1", True))
    )
    (installed / CONFIG[64]).write_bytes(encode(changed))
    assert installed.install(allocator="libother.so") == 0
    assert installed.run("uninstall") == 0
    assert [v.text for v in config_of(installed, 64).environment or ()] == ["LD_BIND_NOW=1"]
    assert not (installed / CONFIG[32]).exists()


def test_another_interposer_is_refused_and_can_be_adopted(image: Image) -> None:
    shutil.copy(image.objects / "liballoc.so", image / "usr/lib/libtheirs.so")
    data = made(32, environment=(Variable.define("LD_PRELOAD", "libtheirs.so:libplain.so", True),))
    image.write(CONFIG[32], data)
    before = image.snapshot()
    assert image.install("--bits", "32") == 1
    assert "interposer-ahead" in image.err
    assert image.snapshot() == before
    theirs = str(image / "usr/lib/libtheirs.so")
    assert image.run("install", "--bits", "32", "--libraries", str(image.objects), "--allocator", theirs) == 0
    assert [name.rpartition("/")[2] for name, _ in names(image, 32)] == [
        "libplain.so",
        "libmemproxy.so",
        "libtheirs.so",
    ]
    assert image.run("install", "--bits", "32", "--libraries", str(image.objects), "--allocator", theirs) == 0
    assert "nothing to do" in image.out
    assert image.run("uninstall", "--purge") == 0
    assert image.snapshot() == before


@pytest.mark.parametrize(
    ("release", "option", "manifest", "profile", "identified"),
    [
        ("Oracle Solaris 10 1/13 s10x_u11wos_24a X86\n", None, "var/svc", False, False),
        ("  Oracle Solaris 11.4 X86\n", None, "lib/svc", True, True),
        ("  OmniOS v11 r151046\n", None, "lib/svc", True, True),
        (None, "10", "var/svc", False, False),
        (None, None, "lib/svc", True, True),
    ],
    ids=["solaris-10", "solaris-11.4", "omnios", "option-10", "default"],
)
def test_release_decides_places_and_format(
    image: Image, release: str | None, option: str | None, manifest: str, profile: bool, identified: bool
) -> None:
    (image / "etc/release").unlink()
    if release is not None:
        (image / "etc/release").write_text(release)
    if manifest == "var/svc":
        shutil.rmtree(image / "lib/svc")
    assert image.install(*(["--release", option] if option else [])) == 0, image.err
    assert (image / manifest / "manifest/site/memproxy.xml").exists()
    assert (image / "etc/svc/profile/site/memproxy.xml").exists() == profile
    assert config_of(image, 32).identified == identified
    assert ((image / CONFIG[64]).read_bytes()[:4] == b"?RLC") == identified
    assert image.run("verify") == 0, image.out


def test_a_host_that_does_not_say_what_it_is_is_refused(empty: Image) -> None:
    assert empty.install() == 1
    assert "does not look like a Solaris root" in empty.err
    assert "--host solaris" in empty.err
    assert list(empty.path.iterdir()) == []


def test_an_option_that_contradicts_the_image_is_a_usage_error(image: Image) -> None:
    assert image.install("--release", "10") == 2
    assert "contradicts" in image.err
    assert image.install("--machine", "sparc") == 2


def test_dry_run_and_plan_change_nothing_and_show_both_files(image: Image) -> None:
    before = image.snapshot(inodes=True)
    assert image.install("--dry-run") == 3
    assert "+ variable (permanent): LD_PRELOAD_64=" in image.out
    assert "untried" in image.out
    assert image.run("plan", "--libraries", str(image.objects), "--json") == 3
    plan = json.loads(image.out)
    assert {step["do"] for step in plan["steps"]} >= {"place-generation", "replace-file"}
    assert [c["abi"] for c in plan["configurations"]] == [32, 64]
    assert image.snapshot(inodes=True) == before
    assert image.install() == 0
    arguments = [
        "--allocator",
        str(image.objects / "liballoc.so"),
        "--allocator",
        str(image.objects / "64/liballoc.so"),
    ]
    assert image.run("plan", "--libraries", str(image.objects), *arguments) == 0
    assert "nothing to do" in image.out


def test_policy_in_the_image_is_obeyed(image: Image) -> None:
    shutil.copy(image.objects / "liballoc.so", image / "usr/lib/liballoc.so")
    image.write(
        "etc/memproxy.toml",
        b'bits = [32]\nprefix = "/opt/mp"\nallocators = ["/usr/lib/liballoc.so"]\nsecure = "system"\n'
        b'library_path = ["/opt/mp/lib"]\nservice = false\n',
    )
    assert image.run("install", "--libraries", str(image.objects)) == 0, image.err
    assert "secure-system" in image.out
    config = config_of(image, 32)
    assert config.trusted_directories is None
    assert config.library_path == ("/lib", "/usr/lib", "/opt/mp/lib")
    assert [verdict for _, verdict in names(image, 32, secure=True)] == ["refused", "refused"]
    assert all(name.startswith("/opt/mp/lib/memproxy/") for name, _ in names(image, 32))
    assert not (image / "lib/svc/manifest/site/memproxy.xml").exists()
    assert not (image / CONFIG[64]).exists()
    assert image.run("verify") == 0
    before_uninstall = image / "etc/memproxy.toml"
    assert image.run("uninstall", "--purge") == 0
    assert before_uninstall.exists()
    assert not (image / CONFIG[32]).exists()


def test_links_of_the_image_never_lead_out_of_it(image: Image, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(image / "var/ld")
    (image / "var/ld").symlink_to("/srv/ld")
    (image / "srv/ld/64").mkdir(parents=True)
    (image / "usr/local/lib").symlink_to("../../../../../../../../opt/lib")
    (image / "opt/lib").mkdir(parents=True)
    assert image.install() == 0, image.err
    assert (image / "srv/ld/ld.config").exists()
    assert (image / "opt/lib/memproxy").exists()
    assert not os.path.exists("/srv/ld/ld.config")
    assert image.run("verify") == 0, image.out
    assert image.run("uninstall", "--purge") == 0
    assert not (image / "opt/lib/memproxy").exists()


def test_without_an_allocator_every_program_stays_on_the_system_allocator(image: Image) -> None:
    assert image.install(allocator="") == 0
    assert "no-allocator" in image.out
    assert len(names(image, 32)) == 1


def test_an_existing_exclusion_list_is_kept(image: Image) -> None:
    image.write("etc/memproxy.conf", b"nscd\n")
    assert image.install() == 0
    assert image.run("uninstall", "--purge") == 0
    assert (image / "etc/memproxy.conf").read_bytes() == b"nscd\n"


def test_purge_keeps_a_list_that_was_edited_and_says_so(installed: Image) -> None:
    with open(installed / "etc/memproxy.conf", "ab") as stream:
        stream.write(b"nscd\n")
    assert installed.run("uninstall", "--purge") == 0
    assert "file-changed: /etc/memproxy.conf" in installed.out
    assert (installed / "etc/memproxy.conf").read_bytes().endswith(b"nscd\n")


def test_purge_keeps_a_generation_that_a_zone_still_names(installed: Image) -> None:
    shutil.copytree(installed / "var/ld", installed / "zones/z1/root/var/ld")
    (installed / "etc/zones").mkdir()
    (installed / "etc/zones/index").write_text("global:installed:/\nz1:installed:/zones/z1:0000\n")
    assert installed.run("uninstall", "--purge") == 0
    assert "generation-in-use" in installed.out
    assert installed.generation().exists()


def test_install_mends_a_damaged_generation_without_an_instant_without_it(installed: Image) -> None:
    victim = installed.generation() / "64/libmemproxy.so"
    good = victim.read_bytes()
    victim.write_bytes(good[:100])
    assert installed.run("verify") == 3
    assert installed.install() == 0, installed.err
    assert "damaged member" in installed.out
    assert victim.read_bytes() == good


def test_uninstall_puts_the_former_file_back_even_over_garbage(image: Image) -> None:
    former = made(32, library_path=("/lib", "/usr/lib", "/opt/lib"))
    image.write(CONFIG[32], former)
    assert image.install() == 0
    (image / CONFIG[32]).write_bytes(b"?RLC garbage")
    assert image.run("uninstall") == 0
    assert (image / CONFIG[32]).read_bytes() == former
    assert (image / (CONFIG[32] + ".damaged")).read_bytes() == b"?RLC garbage"


def test_uninstall_without_a_record_takes_out_just_what_is_ours(image: Image) -> None:
    image.write(CONFIG[64], made(64, library_path=("/lib/64", "/usr/lib/64", "/opt/lib")))
    assert image.install() == 0
    shutil.rmtree(image / "var/opt")
    assert image.run("verify") == 3
    assert "record-missing" in image.out
    assert image.run("uninstall") == 0
    assert not (image / CONFIG[32]).exists()
    assert config_of(image, 64).library_path == ("/lib/64", "/usr/lib/64", "/opt/lib")
    assert config_of(image, 64).environment is None


class Cut(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("command", ["install", "upgrade", "uninstall", "purge"])
def test_a_change_cut_short_at_any_step_is_taken_back_by_the_next_command(
    image: Image, monkeypatch: pytest.MonkeyPatch, command: str, when: str
) -> None:
    image.write(CONFIG[32], made(32, library_path=("/lib", "/usr/lib", "/opt/lib")))
    if command != "install":
        assert image.install() == 0
    before = image.snapshot()
    real_do, real_undo = journal._do, journal._undo

    def go() -> int:
        if command == "install":
            return image.install()
        if command == "upgrade":
            return image.install(allocator="libother.so")
        return image.run("uninstall", *(["--purge"] if command == "purge" else []))

    for cut_at in range(40):
        count = 0

        def do(root: Any, step: Any, services: Any = None, cut_at: int = cut_at) -> None:
            nonlocal count
            count += 1
            if count - 1 == cut_at and when == "before":
                raise Cut
            real_do(root, step, services)
            if count - 1 == cut_at and when == "after":
                raise Cut

        with monkeypatch.context() as patch:
            patch.setattr(journal, "_do", do)
            patch.setattr(journal, "_undo", lambda *arguments: None)  # killed: nothing of ours runs any more
            try:
                go()
                break
            except Cut:
                pass
        image.capsys.readouterr()
        assert image.run("verify") == 3
        assert "change-unfinished" in image.out
        assert image.run("uninstall" if command == "install" else "install", "--dry-run") in (0, 1, 3)
        message = _recover(image)
        assert "cut short and has been taken back" in message
        assert without_journals(image.snapshot()) == without_journals(before), (cut_at, when)
    else:
        pytest.fail("the change has more steps than were tried")
    assert cut_at > 3
    assert journal._undo is real_undo


def _recover(image: Image) -> str:
    from memproxy_sol import change
    from memproxy_sol.root import Root

    return change.mend_unfinished(change.Target(Root(str(image.path)))) or ""


def without_journals(snapshot: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in snapshot.items() if not name.startswith("var/opt/memproxy/changes/")}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_step_takes_everything_back_at_once(
    image: Image, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    before = image.snapshot()
    real = files.write_new

    def write(host: str, state: Any) -> None:
        if host.endswith("64/ld.config.memproxy-new"):
            raise error
        real(host, state)

    monkeypatch.setattr(files, "write_new", write)
    status = image.install()
    assert status == (130 if isinstance(error, KeyboardInterrupt) else 1)
    if status == 1:
        assert "No space left on device; the install was taken back" in image.err
    assert image.snapshot() == before


def test_a_second_change_at_the_same_time_is_refused(image: Image) -> None:
    from memproxy_sol.root import Root

    with lock.locked(Root(str(image.path))):
        assert image.install() == 1
        assert f"another memproxy-sol (process {os.getpid()}) is changing it" in image.err


@pytest.mark.parametrize("command", ["install", "uninstall", "rollback"])
def test_a_running_system_of_no_kind_that_is_known_is_refused_and_nothing_is_made_there(
    image: Image, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memproxy_sol.cli import main
    from memproxy_sol.hosts import linux

    monkeypatch.setattr(linux, "is_linux", lambda root: False)  # as where the C library is musl's
    run = Path("/var/run")
    before = sorted(run.iterdir())
    assert main([command]) == 1
    text = "the running system is Linux, and only Solaris, illumos and Linux with glibc are changed"
    assert f"memproxy-sol: /: {text}; configure an image" in image.capsys.readouterr().err
    assert sorted(run.iterdir()) == before


def test_a_file_of_others_in_our_directory_survives_the_purge(installed: Image) -> None:
    theirs = installed.write("var/opt/memproxy/notes", b"theirs\n")
    assert installed.run("uninstall", "--purge") == 0, installed.err
    assert theirs.read_bytes() == b"theirs\n"
    assert [path.name for path in theirs.parent.iterdir()] == ["notes"]
    assert installed.install() == 0, installed.err
    assert installed.run("uninstall", "--purge") == 0, installed.err
    assert [path.name for path in theirs.parent.iterdir()] == ["notes"]


def test_what_a_killed_exclude_left_beside_the_list_goes(installed: Image) -> None:
    left = installed.write("etc/memproxy.conf.memproxy-new", b"half a li")
    assert installed.run("uninstall") == 0, installed.err
    assert not left.exists()
