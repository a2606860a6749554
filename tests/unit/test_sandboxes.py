"""Confined programs and what a host's files tell of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from memproxy_sol import elf, sandboxes
from memproxy_sol.hosts import linux
from memproxy_sol.root import Root
from tests import needs

PROFILES = "sys/kernel/security/apparmor/profiles"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A runtime linker, which is all that makes it a Linux system."""
    loader = needs.loader(64)
    place = tmp_path / loader.path.lstrip("/")
    place.parent.mkdir(parents=True)
    place.write_bytes(Path(loader.path).read_bytes())
    return tmp_path


def write(tree: Path, name: str, text: str) -> None:
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(text)


def remarks(tree: Path, live: bool = True, allocators: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    facts = linux.read(Root(str(tree), live=live))
    found = sandboxes.remarks(facts, "/usr/local", [elf.read(path) for path in allocators])
    return [(finding.identifier, finding.text) for finding in found]


def test_nothing_to_be_said(tree: Path) -> None:
    write(tree, "lib/systemd/system/a.service", "[Service]\nProtectSystem=strict\nRootDirectory=/\n")
    write(tree, PROFILES, "unconfined (complain)\n")
    write(tree, "sys/fs/selinux/enforce", "0")
    assert remarks(tree) == []


def test_enforced_apparmor_profiles_until_a_rule_lets_them(tree: Path) -> None:
    write(tree, PROFILES, "man_groff (enforce)\n/usr/sbin/cupsd (enforce)\nother (complain)\n")
    ((identifier, text),) = remarks(tree)
    assert identifier == "apparmor"
    assert text.startswith("2 profiles are enforced (man_groff, /usr/sbin/cupsd)")
    assert remarks(tree, live=False) == []
    write(tree, "etc/apparmor.d/abstractions/base.d/memproxy", "/usr/local/lib/memproxy/** mr,\n")
    assert remarks(tree) == []


@pytest.mark.parametrize(
    ("setting", "is_hidden"),
    [
        ("RootDirectory=/srv/jail", True),
        ("RootImage=/srv/a.raw", True),
        ("InaccessiblePaths=/home -/usr/local", True),
        ("InaccessiblePaths=/usr/local/share /home", False),
        ("TemporaryFileSystem=/usr:ro", True),
        ("TemporaryFileSystem=/var", False),
        ("NoExecPaths=/", True),
        ("NoExecPaths=/\nExecPaths=/usr/bin/x /usr/lib /lib", True),
        ("NoExecPaths=/\nExecPaths=/usr/bin/x /usr/local/lib", False),
        ("# InaccessiblePaths=/usr", False),
        ("ReadOnlyPaths=/usr", False),
    ],
)
def test_services_that_do_not_see_it(tree: Path, setting: str, is_hidden: bool) -> None:
    write(tree, "usr/lib/systemd/system/jailed.service", "[Service]\nExecStart=/x\n")
    (tree / "usr/lib/systemd/system/alias.service").symlink_to("jailed.service")
    write(tree, "etc/systemd/system/jailed.service.d/more.conf", f"[Service]\n{setting}\n")
    found = remarks(tree, live=False)
    assert [identifier for identifier, _ in found] == (["service-sandboxed"] if is_hidden else [])
    assert all("keeps jailed.service from /usr/local/lib/memproxy" in text for _, text in found)


def test_too_few_mappings_for_the_allocator_that_needs_many(tree: Path, tmp_path: Path) -> None:
    write(tree, "proc/sys/vm/max_map_count", "65530\n")
    hardened = tmp_path / "libhardened_malloc.so"
    hardened.write_bytes(Path(needs.allocator("mimalloc", 64)).read_bytes())
    assert remarks(tree, allocators=(needs.allocator("mimalloc", 64),)) == []
    assert [identifier for identifier, _ in remarks(tree, allocators=(str(hardened),))] == ["max-map-count"]
    write(tree, "proc/sys/vm/max_map_count", "1048576\n")
    assert remarks(tree, allocators=(str(hardened),)) == []
