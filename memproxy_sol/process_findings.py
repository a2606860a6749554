"""What the live processes of a host give verify to say: notes and warnings, never an error.

A daemon that is older than the configuration is no fault: it gets libmemproxy when it is started again.
Standard library and own modules only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from memproxy_sol.findings import NOTE, WARNING, Finding
from memproxy_sol.process import LOADED, Process

WHERE = "processes"
_NAMED = 3
"""Processes that a finding names; the others are counted."""


def judge(processes: Iterable[Process], allocators: Iterable[int] = ()) -> list[Finding]:
    """The findings; `allocators` are the ABIs for which an allocator is configured behind libmemproxy."""
    found = tuple(process for process in processes if not process.zone)
    with_allocator = set(allocators)
    findings = []

    def say(identifier: str, severity: str, which: Callable[[Process], bool], text: str, hint: str) -> None:
        chosen = [process for process in found if which(process)]
        if chosen:
            findings.append(Finding(identifier, severity, WHERE, f"{_count(chosen)}: {text}", hint))

    say(
        "processes-unexplained",
        WARNING,
        lambda one: one.state == "unexplained",
        "without libmemproxy, though younger than the configuration, and nothing that was seen says why",
        "restart them; if that does not help, start one with LD_DEBUG=files in its environment",
    )
    say(
        "processes-no-allocator",
        WARNING,
        lambda one: one.record is not None and one.record.reason == "no-allocator" and one.bits in with_allocator,
        "libmemproxy is loaded, the allocator behind it is not: the system allocator serves",
        "restart them",
    )
    say(
        "processes-no-record",
        WARNING,
        lambda one: one.state == LOADED and one.record is None,
        "libmemproxy is loaded, but no record of it can be read from memory",
        "memproxy-sol verify --processes shows which file was loaded",
    )
    say(
        "processes-own-environment",
        NOTE,
        lambda one: one.state in ("own-preload", "own-config", "no-config"),
        "without libmemproxy, because of a variable in their own environment",
        "memproxy-sol verify --processes names the variable of each",
    )
    say(
        "processes-set-id",
        NOTE,
        lambda one: one.state == "set-id",
        "set-id and without libmemproxy, because its directory is not a trusted one",
        'secure = "custom" in /etc/memproxy.toml and memproxy-sol install change that',
    )
    say(
        "processes-old-generation",
        NOTE,
        lambda one: one.state == LOADED and not one.current,
        "with libmemproxy of another generation than the configured one",
        "they get the present one when they are restarted",
    )
    say(
        "processes-earlier",
        NOTE,
        lambda one: one.state == "earlier",
        "older than the configuration, and so without libmemproxy",
        "they get it when they are restarted, all of them by a reboot",
    )
    say(
        "processes-boot",
        NOTE,
        lambda one: one.state == "boot",
        "older than the mount of the file system with the configuration or the libraries, and so without libmemproxy",
        "those that can be restarted get libmemproxy then",
    )
    say(
        "processes-unreadable",
        NOTE,
        lambda one: one.state == "unreadable",
        "could not be looked at",
        "run memproxy-sol verify as root",
    )
    return findings


def _count(chosen: list[Process]) -> str:
    names = ", ".join(f"{process.pid} ({process.name or '?'})" for process in chosen[:_NAMED])
    more = ", …" if len(chosen) > _NAMED else ""
    return f"{len(chosen)} process{'es' if len(chosen) != 1 else ''} ({names}{more})"
