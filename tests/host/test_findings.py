"""Each way in which an installed image can be broken gives its own finding, with a mending command that is true."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from typing import Callable

import pytest

from memproxy_sol import abi
from memproxy_sol.ld_config import Variable, decode, encode, layout_for, new
from tests.images import CONFIG, Image

LAYOUTS = {bits: layout_for(abi.X86, bits) for bits in (32, 64)}
Break = Callable[[Image], object]


def edit(bits: int, **change: Callable[[object], object]) -> Break:
    """Rewrite one configuration with fields changed by functions of their present value."""

    def act(image: Image) -> None:
        path = image / CONFIG[bits]
        config = decode(path.read_bytes(), layout=LAYOUTS[bits])
        values = {name: function(getattr(config, name)) for name, function in change.items()}
        path.write_bytes(encode(dataclasses.replace(config, **values)))  # type: ignore[arg-type]

    return act


def set_byte(bits: int, offset: int, value: int) -> Break:
    def act(image: Image) -> None:
        path = image / CONFIG[bits]
        data = bytearray(path.read_bytes())
        data[offset] = value
        path.write_bytes(bytes(data))

    return act


def content(name: str, function: Callable[[bytes], bytes]) -> Break:
    def act(image: Image) -> None:
        path = member(image, name)
        path.write_bytes(function(path.read_bytes()))

    return act


def member(image: Image, name: str) -> Path:
    """A path of the image; `GEN` stands for the generation's directory."""
    return image.generation() / name[4:] if name.startswith("GEN/") else image / name


def mode(name: str, bits: int) -> Break:
    return lambda image: member(image, name).chmod(bits)


def owner(name: str, uid: int, gid: int = 0) -> Break:
    return lambda image: os.chown(member(image, name), uid, gid)


def remove(name: str) -> Break:
    def act(image: Image) -> None:
        path = member(image, name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return act


def instead(name: str, make: Callable[[Path], object]) -> Break:
    def act(image: Image) -> None:
        remove(name)(image) if not name.endswith("GEN/") else None
        make(member(image, name))

    return act


def swap(name: str, other: str) -> Break:
    def act(image: Image) -> None:
        shutil.copy(member(image, other), member(image, name))

    return act


def items(function: Callable[[list[str]], list[str]]) -> Callable[[object], object]:
    """A change of the items of the (one) preload variable."""

    def act(environment: object) -> object:
        (variable,) = environment  # type: ignore[misc]
        value = ":".join(function(variable.value.split(":")))
        return (dataclasses.replace(variable, text=f"{variable.name}={value}"),)

    return act


def also(*added: Variable, first: bool = False) -> Callable[[object], object]:
    return lambda environment: (*added, *environment) if first else (*environment, *added)  # type: ignore[misc]


OTHER_GENERATION = "/usr/local/lib/memproxy/0123456789abcdef/libmemproxy.so"

CASES: dict[str, tuple[str, Break]] = {
    # The configuration layer.
    "32-bit file removed": ("config-missing", remove(CONFIG[32])),
    "64-bit file removed": ("config-missing", remove(CONFIG[64])),
    "both directories gone": ("config-missing", remove("var/ld")),
    "file readable for root alone": ("config-unreadable", mode(CONFIG[32], 0o600)),
    "file without any permission": ("config-unreadable", mode(CONFIG[64], 0)),
    "file writable by everybody": ("config-insecure", mode(CONFIG[64], 0o646)),
    "file belongs to a user": ("config-insecure", owner(CONFIG[32], 100)),
    "file writable by a group with members": (
        "config-insecure",
        lambda image: (owner(CONFIG[32], 0, 3)(image), mode(CONFIG[32], 0o664)(image)),
    ),
    "directory instead of the file": ("config-not-a-file", instead(CONFIG[32], Path.mkdir)),
    "FIFO instead of the file": ("config-not-a-file", instead(CONFIG[32], os.mkfifo)),
    "empty file": ("config-corrupt", content(CONFIG[32], lambda data: b"")),
    "truncated in the header": ("config-corrupt", content(CONFIG[64], lambda data: data[:50])),
    "truncated in the strings": ("config-corrupt", content(CONFIG[64], lambda data: data[:-30])),
    "text": ("config-corrupt", content(CONFIG[32], lambda data: b"LD_PRELOAD=x\n")),
    "offset out of range": ("config-corrupt", set_byte(32, 16 + 44 + 3, 0x7F)),
    "32-bit file in the 64-bit place": ("config-wrong-abi", swap(CONFIG[64], CONFIG[32])),
    "file of another machine": ("config-wrong-abi", set_byte(32, 6, 2)),
    "newer version": ("config-version", set_byte(32, 16, 9)),
    "ignore flag": ("config-ignored", set_byte(64, 20, 0xD)),
    "entry removed": ("preload-missing", edit(32, environment=lambda v: None)),
    "allocator's item removed": ("preload-missing", edit(64, environment=items(lambda i: i[:1]))),
    "entry of another generation instead": (
        "preload-missing",
        edit(64, environment=items(lambda i: [OTHER_GENERATION])),
    ),
    "displaced by another definition": (
        "preload-displaced",
        edit(64, environment=also(Variable.define("LD_PRELOAD_64", "libplain.so", True), first=True)),
    ),
    "another's object displaced by ours": (
        "preload-others-displaced",
        edit(32, environment=also(Variable.define("LD_PRELOAD", "libplain.so", True))),
    ),
    "order turned round": ("preload-order", edit(32, environment=items(lambda i: i[::-1]))),
    "a stranger between": ("preload-order", edit(32, environment=items(lambda i: [i[0], "libplain.so", i[1]]))),
    "made replaceable": (
        "preload-kind",
        edit(32, environment=lambda v: tuple(dataclasses.replace(x, flags=1) for x in v)),  # type: ignore[attr-defined]
    ),
    "second generation beside": (
        "preload-foreign-generation",
        edit(64, environment=items(lambda i: [*i, OTHER_GENERATION])),
    ),
    "another's missing object": ("preload-object-missing", edit(64, environment=items(lambda i: [*i, "/no/such.so"]))),
    "another's missing object by name": (
        "preload-object-missing",
        edit(32, environment=also(Variable.define("LD_PRELOAD", "libnone.so"))),
    ),
    "directory not trusted": ("directory-not-trusted", edit(64, trusted_directories=lambda v: v[:2])),  # type: ignore[index]
    "no trusted directories": ("directory-not-trusted", edit(32, trusted_directories=lambda v: None)),
    "defaults not trusted": ("trusted-default-missing", edit(32, trusted_directories=lambda v: v[2:])),  # type: ignore[index]
    "somebody added a variable": (
        "config-changed",
        edit(64, environment=also(Variable.define("LD_BIND_NOW", "1", True))),
    ),
    "only a header left": (
        "preload-missing",
        lambda image: (image / CONFIG[64]).write_bytes(encode(new(LAYOUTS[64]))),
    ),
    "huge file": ("config-unusable", lambda image: os.truncate(image / CONFIG[32], 1 << 30)),
    # The library layer.
    "huge library": ("library-unjudged", lambda image: os.truncate(member(image, "GEN/liballoc.so"), 1 << 30)),
    "generation removed": ("library-missing", remove("usr/local/lib/memproxy")),
    "library removed": ("library-missing", remove("GEN/64/libmemproxy.so")),
    "allocator removed": ("library-missing", remove("GEN/liballoc.so")),
    "dangling link": ("library-missing", instead("GEN/liballoc.so", lambda path: path.symlink_to("/no/such"))),
    "wrong class": ("library-wrong-class", swap("GEN/libmemproxy.so", "GEN/64/libmemproxy.so")),
    "wrong machine": ("library-wrong-machine", content("GEN/64/liballoc.so", lambda d: d[:18] + b"\xb7\0" + d[20:])),
    "not a shared object": ("library-not-shared", content("GEN/libmemproxy.so", lambda d: d[:16] + b"\1\0" + d[18:])),
    "garbage": ("library-not-elf", content("GEN/libmemproxy.so", lambda d: b"garbage")),
    "empty library": ("library-not-elf", content("GEN/64/libmemproxy.so", lambda d: b"")),
    "truncated library": ("library-changed", content("GEN/libmemproxy.so", lambda d: d[:5000])),
    "another library of the same kind": ("library-changed", swap("GEN/libmemproxy.so", "GEN/liballoc.so")),
    "directory instead of the library": ("library-not-a-file", instead("GEN/64/libmemproxy.so", Path.mkdir)),
    "library readable for root alone": ("library-unreadable", mode("GEN/64/libmemproxy.so", 0o600)),
    "library without any permission": ("library-unreadable", mode("GEN/liballoc.so", 0)),
    "library writable by everybody": ("library-insecure", mode("GEN/libmemproxy.so", 0o666)),
    "library belongs to a user": ("library-insecure", owner("GEN/64/liballoc.so", 100)),
    "directory closed to others": ("path-unsearchable", mode("usr/local/lib", 0o750)),
    "generation closed to others": ("path-unsearchable", lambda image: image.generation().chmod(0o700)),
    "configuration directory closed": ("path-unsearchable", mode("var/ld/64", 0o700)),
    "parent writable by everybody": ("path-insecure", mode("usr/local", 0o777)),
    "parent sticky and writable": ("path-insecure", mode("usr/local", 0o1777)),
    "parent belongs to a user": ("path-insecure", owner("usr/local/lib", 100)),
    "parent writable by a group with members": (
        "path-insecure",
        lambda image: (owner("usr", 0, 3)(image), mode("usr", 0o775)(image)),
    ),
    "parent writable by an unknown group": (
        "path-insecure",
        lambda image: (owner("usr", 0, 4711)(image), mode("usr", 0o775)(image)),
    ),
    "file on the way": (
        "path-not-a-directory",
        instead("usr/local/lib/memproxy", lambda path: path.write_bytes(b"")),
    ),
    "loop of links": ("path-loop", instead("usr/local/lib", lambda path: path.symlink_to("lib"))),
    "stranger in the generation": (
        "generation-foreign-file",
        lambda image: (image.generation() / "libevil.so").write_bytes(b"x"),
    ),
    # The exclusion list, the service, the record.
    "list removed": ("exclusions-missing", remove("etc/memproxy.conf")),
    "list readable for root alone": ("exclusions-unreadable", mode("etc/memproxy.conf", 0o600)),
    "list writable by everybody": ("exclusions-insecure", mode("etc/memproxy.conf", 0o666)),
    "list is a FIFO": ("exclusions-not-a-file", instead("etc/memproxy.conf", os.mkfifo)),
    "list is a directory": ("exclusions-not-a-file", instead("etc/memproxy.conf", Path.mkdir)),
    "line with an unknown route": ("exclusions-line", content("etc/memproxy.conf", lambda d: d + b"nscd = fast\n")),
    "line with a relative path": ("exclusions-never-matches", content("etc/memproxy.conf", lambda d: d + b"bin/x\n")),
    "line that is a link": (
        "exclusions-never-matches",
        lambda image: (
            (image / "usr/bin").mkdir(),
            (image / "usr/bin/real").write_bytes(b"\x7fELF"),
            (image / "usr/bin/alias").symlink_to("real"),
            content("etc/memproxy.conf", lambda d: d + b"/usr/bin/alias\n")(image),
        ),
    ),
    "line written for a tool that cut names": (
        "exclusions-cut-name",
        lambda image: (
            (image / "usr/bin").mkdir(),
            (image / "usr/bin/abcdefghijklmnopqrstuvwxyz").write_bytes(b"\x7fELF"),
            content("etc/memproxy.conf", lambda d: d + b"abcdefghijklmno\n")(image),
        ),
    ),
    "line twice": ("exclusions-duplicate", content("etc/memproxy.conf", lambda d: d + b"nscd\nnscd\n")),
    "line behind another": (
        "exclusions-never-reached",
        content("etc/memproxy.conf", lambda d: d + b"n*\nnscd=custom\nnscd = custom\n"),
    ),
    "manifest removed": ("manifest-missing", remove("lib/svc/manifest/site/memproxy.xml")),
    "manifest changed": (
        "manifest-changed",
        content("lib/svc/manifest/site/memproxy.xml", lambda d: d.replace(b"timeout", b"timeout ")),
    ),
    "manifest garbage": ("manifest-damaged", content("lib/svc/manifest/site/memproxy.xml", lambda d: b"<")),
    "profile removed": ("profile-missing", remove("etc/svc/profile/site/memproxy.xml")),
    "profile changed": ("profile-changed", content("etc/svc/profile/site/memproxy.xml", lambda d: d + b"<!-- -->")),
    "program of the service removed": ("service-program-missing", remove("usr/local/bin/memproxy-sol")),
    "record removed": ("record-missing", remove("var/opt/memproxy/installed.json")),
    "record garbage": ("record-damaged", content("var/opt/memproxy/installed.json", lambda d: b"{")),
    "record edited": (
        "record-damaged",
        content("var/opt/memproxy/installed.json", lambda d: d.replace(b'"trusted": true', b'"trusted": false')),
    ),
    "record writable by everybody": ("record-insecure", mode("var/opt/memproxy/installed.json", 0o666)),
    "list without an end": ("exclusions-unusable", lambda image: os.truncate(image / "etc/memproxy.conf", 1 << 30)),
    "journal garbage": (
        "journal-damaged",
        content("var/opt/memproxy/changes/000001.jsonl", lambda d: b"0 x\n" + d),
    ),
    "record is a directory": ("record-not-a-file", instead("var/opt/memproxy/installed.json", Path.mkdir)),
    "everything of ours gone": (
        "not-installed",
        lambda image: [remove(n)(image) for n in (CONFIG[32], CONFIG[64], "var/opt/memproxy")],
    ),
}
HARMLESS = {
    "preload-others-displaced",
    "preload-kind",
    "trusted-default-missing",
    "config-changed",
    "generation-foreign-file",
    "exclusions-missing",
    "exclusions-line",
    "exclusions-never-matches",
    "exclusions-cut-name",
    "exclusions-duplicate",
    "exclusions-never-reached",
    "manifest-missing",
    "manifest-changed",
    "manifest-damaged",
    "profile-missing",
    "profile-changed",
    "service-program-missing",
}
"""Identifiers that are warnings or notes: processes are served as wanted all the same."""
BY_A_PERSON = {"preload-object-missing", "path-loop"}
"""What no command of ours can mend: another's broken preload, and a loop of links that somebody made."""


@pytest.mark.parametrize("case", sorted(CASES))
def test_each_broken_image_gives_its_own_finding(installed: Image, case: str) -> None:
    identifier, act = CASES[case]
    act(installed)
    before = installed.snapshot(inodes=True)
    status = installed.run("verify", "--json")
    report = json.loads(installed.out)
    found = {finding["id"]: finding for finding in report["findings"]}
    assert identifier in found, found
    assert status == (0 if identifier in HARMLESS else 3)
    assert report["ok"] == (status == 0)
    finding = found[identifier]
    assert finding["text"]
    assert finding["hint"] or identifier in ("trusted-default-missing",)
    assert installed.snapshot(inodes=True) == before, "verify never repairs"
    assert installed.run("verify") == status
    assert identifier in installed.out
    assert "Traceback" not in installed.err


@pytest.mark.parametrize("case", sorted(c for c, (i, _) in CASES.items() if i not in HARMLESS | BY_A_PERSON))
def test_the_hint_mends_it(installed: Image, case: str) -> None:
    """What the findings tell to type is typed, as far as it is a command, until verify is content."""
    CASES[case][1](installed)
    for _ in range(6):
        if installed.run("verify", "--json") == 0:
            return
        report = json.loads(installed.out)
        errors = [finding for finding in report["findings"] if finding["severity"] == "error"]
        assert any(obey(installed, finding) for finding in errors), errors
    pytest.fail(installed.out)


def obey(image: Image, finding: dict[str, str]) -> bool:
    hint = finding["hint"]
    command = re.match(r"(chmod|chown) (\S+) (\S+)$", hint)
    if command:
        return os.system(f"{command[1]} {command[2]} {command[3]}") == 0
    aside = re.match(r"mv (\S+) (\S+), then install again$", hint)
    if aside:
        os.rename(aside[1], aside[2])
        return image.install() in (0, 3)
    return hint.startswith("memproxy-sol install") and image.install() in (0, 3)


def test_a_search_directory_of_the_policy_that_is_gone_is_told(image: Image) -> None:
    image.write("etc/memproxy.toml", b'library_path = ["/opt/lib"]\n')
    assert image.install() == 0, image.err
    edit(32, library_path=lambda v: None)(image)
    assert image.run("verify") == 3
    assert "error: library-path-missing: /var/ld/ld.config" in image.out
    assert image.install() == 0
    assert image.run("verify") == 0, image.out


def test_an_image_without_libc_is_told(empty: Image) -> None:
    assert empty.install("--host", "solaris") == 0, empty.err
    assert "warning: libc-missing: 32-bit" in empty.out
    assert "warning: libc-missing: 64-bit" in empty.out


def test_a_healthy_image_has_no_finding(installed: Image) -> None:
    assert installed.run("verify", "--json") == 0
    assert json.loads(installed.out)["findings"] == []


def test_every_identifier_in_the_code_is_documented_and_the_reverse() -> None:
    top = Path(__file__).parents[2]
    rows = [row.split("|")[1] for row in (top / "docs/findings.md").read_text().splitlines() if row.startswith("| `")]
    documented = {identifier for row in rows for identifier in re.findall(r"`([a-z0-9-]+)`", row)}
    assert {identifier for identifier, _ in CASES.values()} <= documented
    code = "".join(path.read_text() for path in sorted((top / "memproxy_sol").rglob("*.py")))
    literal = set(re.findall(r'(?:Finding|add|say)\(\s*"([a-z0-9]+(?:-[a-z0-9]+)+|untried)"', code))
    assert literal, "the pattern finds the identifiers"
    assert literal <= documented
    words = set(re.findall(r"[a-z0-9]+", code))
    assert all(set(identifier.split("-")) <= words for identifier in documented)
