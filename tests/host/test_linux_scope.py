"""Scope on Linux: everybody, root alone, some services. An image of a small Linux tree, in process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from memproxy_sol.cli import main
from memproxy_sol.hosts.linux_loader import allocators
from tests import needs

LIST = "etc/ld.so.preload"
DROP_IN = "etc/systemd/system/cron.service.d/memproxy.conf"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The runtime linkers and C libraries of this machine, and a service."""
    top = tmp_path / "linux"
    for bits in (32, 64):
        loader = needs.loader(bits)
        place = top / loader.lib
        place.mkdir(parents=True)
        real = Path(loader.path).resolve()
        for name in (real.name, "libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"):
            shutil.copy(real.parent / name, place / name)
        link = top / loader.path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(f"/{loader.lib}/{real.name}")
    for name, text in {
        "etc/os-release": 'PRETTY_NAME="A small Linux"\n',
        "etc/passwd": "root:x:0:0::/:/bin/sh\n",
        "etc/group": "root:x:0:\n",
        "lib/systemd/system/cron.service": "[Service]\nExecStart=/usr/sbin/cron\n",
    }.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    return top


def install(tree: Path, policy: str) -> int:
    (tree / "etc/memproxy.toml").write_text(policy)
    files = [word for bits in (32, 64) for word in ("--allocator", allocators(needs.loader(bits))["mimalloc"])]
    return main(["install", "--root", str(tree), *files])


def test_a_list_for_root_alone(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(tree, 'scope = "root"\n') == 0
    assert (tree / LIST).stat().st_mode & 0o777 == 0o600
    assert main(["verify", "--root", str(tree)]) == 0
    (tree / LIST).chmod(0o644)
    capsys.readouterr()
    assert main(["verify", "--root", str(tree)]) == 0
    assert "warning: scope-changed" in capsys.readouterr().out
    assert install(tree, "") == 0
    assert (tree / LIST).stat().st_mode & 0o777 == 0o644


def test_what_others_preload_is_not_taken_from_users(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / LIST).write_text("/lib/x86_64-linux-gnu/libm.so.6\n")
    assert install(tree, 'scope = "root"\n') == 1
    assert "error: scope-others: /etc/ld.so.preload: has /lib/x86_64-linux-gnu/libm.so.6" in capsys.readouterr().err
    (tree / LIST).chmod(0o600)
    assert install(tree, 'scope = "root"\n') == 0
    assert main(["uninstall", "--root", str(tree)]) == 0
    assert (tree / LIST).read_text() == "/lib/x86_64-linux-gnu/libm.so.6\n"
    assert (tree / LIST).stat().st_mode & 0o777 == 0o600


def test_services_get_a_drop_in_and_nobody_else_anything(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(tree, 'scope = "services"\nservices = ["cron.service"]\n') == 0
    (generation,) = (tree / "usr/local/lib/memproxy").iterdir()
    place = f"/usr/local/lib/memproxy/{generation.name}/$LIB"
    line = f'Environment="LD_PRELOAD={place}/libmemproxy.so:{place}/libmimalloc.so.2"'
    assert (tree / DROP_IN).read_text() == f"# by memproxy-sol\n[Service]\n{line}\n"
    assert not (tree / LIST).exists()
    assert main(["verify", "--root", str(tree)]) == 0
    (tree / DROP_IN).unlink()
    capsys.readouterr()
    assert main(["verify", "--root", str(tree)]) == 3
    assert "error: drop-in-missing: /etc/systemd/system/cron.service.d/memproxy.conf" in capsys.readouterr().out
    assert install(tree, 'scope = "services"\nservices = ["cron.service"]\n') == 0
    assert main(["verify", "--root", str(tree)]) == 0
    (tree / DROP_IN).write_text("[Service]\n")
    capsys.readouterr()
    assert main(["verify", "--root", str(tree)]) == 0
    assert "warning: drop-in-changed" in capsys.readouterr().out


def test_from_all_to_services_and_back(tree: Path) -> None:
    assert install(tree, "") == 0
    everybody = (tree / LIST).read_bytes()
    assert install(tree, 'scope = "services"\nservices = ["cron.service"]\n') == 0
    assert not (tree / LIST).exists()
    assert main(["rollback", "--root", str(tree)]) == 0
    assert (tree / LIST).read_bytes() == everybody
    assert not (tree / DROP_IN).exists()
    assert install(tree, 'scope = "services"\nservices = ["cron.service"]\n') == 0
    assert main(["uninstall", "--root", str(tree)]) == 0
    assert not (tree / DROP_IN).exists()


@pytest.mark.parametrize(
    ("policy", "prepare", "words"),
    [
        ('scope = "services"\n', {}, "error: scope-empty: policy services"),
        (
            'scope = "services"\nservices = ["cron.service"]\n',
            {"etc/systemd/system/cron.service.d/other.conf": "[Service]\nEnvironment=LD_PRELOAD=/x.so\n"},
            "error: service-preloads: /etc/systemd/system/cron.service.d/other.conf",
        ),
        (
            'scope = "services"\nservices = ["cron.service"]\n',
            {DROP_IN: "[Service]\nNice=5\n"},
            "/etc/systemd/system/cron.service.d/memproxy.conf: is somebody else's file where ours has to go",
        ),
    ],
    ids=["no service", "a preload of its own", "somebody's file"],
)
def test_refused(
    tree: Path, capsys: pytest.CaptureFixture[str], policy: str, prepare: dict[str, str], words: str
) -> None:
    for name, text in prepare.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    assert install(tree, policy) == 1
    assert words in capsys.readouterr().err
    assert not (tree / "usr/local/lib/memproxy").exists()


def test_a_service_that_there_is_not_is_told(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(tree, 'scope = "services"\nservices = ["nothere.service"]\n') == 0
    assert "warning: service-unknown: nothere.service" in capsys.readouterr().out


def test_the_search_path_of_the_policy(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tree / "etc/ld.so.conf.d/memproxy.conf"
    assert install(tree, 'library_path = ["/opt/a/lib", "/opt/b/lib"]\n') == 0
    assert path.read_text() == "# by memproxy-sol\n/opt/a/lib\n/opt/b/lib\n"
    assert (
        f"note: search-path: /etc/ld.so.conf.d/memproxy.conf: is in force when ldconfig has read it; ldconfig -r {tree}"
        in (capsys.readouterr().out)
    )
    path.unlink()
    assert main(["verify", "--root", str(tree)]) == 3
    assert "error: drop-in-missing: /etc/ld.so.conf.d/memproxy.conf" in capsys.readouterr().out
    assert install(tree, "") == 0
    assert main(["verify", "--root", str(tree)]) == 0
    assert not path.exists()


SERVICES = 'scope = "services"\nservices = ["cron.service"]\n'


def test_back_to_services_is_known_to_the_record(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(tree, SERVICES) == 0
    ours = (tree / DROP_IN).read_bytes()
    assert install(tree, 'scope = "root"\n') == 0
    assert not (tree / DROP_IN).exists()
    assert main(["rollback", "--root", str(tree)]) == 0
    assert (tree / DROP_IN).read_bytes() == ours
    assert not (tree / LIST).exists()
    assert main(["verify", "--root", str(tree)]) == 0
    capsys.readouterr()
    assert main(["status", "--root", str(tree)]) == 0
    assert "installed:     nothing" not in capsys.readouterr().out


def test_of_an_edited_drop_in_just_our_line_goes(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(tree, SERVICES) == 0
    with open(tree / DROP_IN, "a") as stream:
        stream.write("Environment=FOO=1\n")
    assert main(["uninstall", "--root", str(tree)]) == 0
    assert "is kept, less our line" in capsys.readouterr().out
    assert (tree / DROP_IN).read_text() == "# by memproxy-sol\n[Service]\nEnvironment=FOO=1\n"


def test_a_generation_that_a_unit_names_is_not_purged(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(tree, SERVICES) == 0
    copy = tree / "etc/systemd/system/other.service.d/mine.conf"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((tree / DROP_IN).read_bytes())
    assert main(["uninstall", "--purge", "--root", str(tree)]) == 0
    assert "is kept: /etc/systemd/system/other.service.d/mine.conf still names it" in capsys.readouterr().out
    assert list((tree / "usr/local/lib/memproxy").iterdir())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lib/systemd/system/web@.service", "[Service]\nEnvironment=LD_PRELOAD=/x.so\n"),
        ("etc/systemd/system/web@.service.d/a.conf", "[Service]\nEnvironment=LD_PRELOAD=/x.so\n"),
        ("etc/systemd/system/service.d/a.conf", "[Service]\nEnvironment=LD_PRELOAD=/x.so\n"),
        ("lib/systemd/system/web@a.service", "[Service]\nEnvironmentFile=-/etc/default/web\n"),
    ],
)
def test_a_preload_by_a_template_a_common_drop_in_or_a_file(
    tree: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    for path, data in ((name, text), ("etc/default/web", "LD_PRELOAD=/x.so\n")):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(data)
    assert install(tree, 'scope = "services"\nservices = ["web@a.service"]\n') == 1
    assert "error: service-preloads: /" in capsys.readouterr().err


def test_from_root_to_services_though_others_are_in_the_list(tree: Path) -> None:
    (tree / LIST).write_text("/lib/x86_64-linux-gnu/libm.so.6\n")
    (tree / LIST).chmod(0o600)
    assert install(tree, 'scope = "root"\n') == 0
    assert install(tree, SERVICES) == 0
    assert (tree / LIST).read_text() == "/lib/x86_64-linux-gnu/libm.so.6\n"


def test_an_object_of_one_abi_alone_is_told(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / LIST).write_text("/lib/x86_64-linux-gnu/libm.so.6\n")
    assert install(tree, "") == 0
    assert (
        "warning: preload-object-class: /etc/ld.so.preload: preloads /lib/x86_64-linux-gnu/libm.so.6, which is 64-bit"
        in (capsys.readouterr().out)
    )
