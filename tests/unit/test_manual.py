"""The manual pages say what the program has: every command, switch, key and route, and none that it has not."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from plumbum import cli

from memproxy_sol import exclusions, policy, resources
from memproxy_sol.cli.application import MemproxySol

MAN = Path(__file__).parent.parent.parent / "man"
PAGES = sorted(MAN.glob("*.[0-9]"))
META = {"help", "help-all", "version", "completions", "h"}


def text_of(name: str) -> str:
    """The page without what only the formatter reads."""
    return re.sub(r"\\f[BIR]", "", (MAN / name).read_text(encoding="ascii")).replace("\\-", "-")


def commands(application: type[cli.Application], name: str = "") -> Iterator[tuple[str, type[cli.Application]]]:
    """Every command that does something, by what is typed behind `memproxy-sol`."""
    for word, subcommand in application("memproxy-sol")._subcommands.items():
        found = subcommand.get()
        if found("memproxy-sol")._subcommands:
            yield from commands(found, f"{name}{word} ")
        else:
            yield f"{name}{word}", found


def switches(application: type[cli.Application]) -> set[str]:
    return {name for name in application("memproxy-sol")._switches_by_name if name not in META}


COMMANDS = dict(commands(MemproxySol))


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_and_switch_is_in_the_manual(command: str) -> None:
    page = text_of("memproxy-sol.8")
    assert re.search(rf"^{command}\b|, {command}\b", page[page.index(".SH COMMANDS") :], re.MULTILINE)
    for switch in switches(COMMANDS[command]) - {"v"}:
        dashed = f"--{switch}" if len(switch) > 1 else f"-{switch}"
        assert re.search(rf"(?<![-\w]){dashed}(?![-\w])", page), f"{command} {dashed}"


def test_no_switch_is_in_the_manual_that_no_command_has() -> None:
    known = set().union(*map(switches, COMMANDS.values())) | META
    found = set(re.findall(r"(?<![-\w])--?([a-z][-a-z]*)", text_of("memproxy-sol.8")))
    assert found - known <= {"sol"}


def test_every_policy_key_is_in_its_manual() -> None:
    described = re.findall(r"^\.TP\n(\w+) = ", text_of("memproxy.toml.5"), re.MULTILINE)
    assert described == list(policy.KEYS)


def test_the_examples_of_the_policy_are_allowed() -> None:
    page = text_of("memproxy.toml.5")
    example = re.search(r"\.SH EXAMPLES\n\.nf\n(.*?)\.fi", page, re.DOTALL)
    assert example is not None
    assert policy.parse(example[1].encode(), "example").bits == (64,)


def test_the_examples_of_the_list_are_lines_that_apply() -> None:
    page = text_of("memproxy.conf.5")
    example = re.search(r"\.SH EXAMPLES\n\.nf\n(.*?)\.fi", page, re.DOTALL)
    assert example is not None
    lines = exclusions.parse(example[1].encode())
    assert [(line.pattern, line.route, line.problem) for line in lines] == [
        ("nscd", "system", ""),
        ("/opt/vendor/bin/worker[0-9]", "custom", ""),
        ("/opt/vendor/", "system", ""),
    ]
    for route in exclusions.ROUTES:
        assert f"= {route}" in page


def test_the_service_names_these_pages() -> None:
    service = ElementTree.parse(resources.smf_manifest())
    named = {f"{page.get('title')}.{page.get('section')}" for page in service.iter("manpage")}
    assert named == {page.name for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_groff_takes_the_page_without_a_warning(page: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("there is no groff here")
    result = subprocess.run(["groff", "-ww", "-man", "-Tascii", str(page)], capture_output=True, text=True)
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_uses_only_what_the_oldest_man_knows(page: Path) -> None:
    """Solaris 10 formats with the man macros of System V: no extension of groff or mandoc."""
    known = {"TH", "SH", "SS", "TP", "PP", "BR", "nf", "fi"}
    assert set(re.findall(r"^[.']\s*(\w+)", page.read_text(), re.MULTILINE)) <= known
    assert set(re.findall(r"\\(.)", page.read_text())) <= {"f", "-"}
