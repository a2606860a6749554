"""Service preflight: whether the program of the service starts as svc.startd or systemd will start it."""

from __future__ import annotations

import re
from dataclasses import replace

from memproxy_sol.commands import Ran, Shell
from memproxy_sol.errors import EXIT_DIFFERENCES, EXIT_FAILED, EXIT_OK, CommandError, printable
from memproxy_sol.findings import ERROR, WARNING, Finding
from memproxy_sol.root import Root
from memproxy_sol.smf_manifest import FMRI, check_program_path
from memproxy_sol.smf_method import ERR_FATAL, ERR_NOSMF, NAMES
from memproxy_sol.systemd_unit import unit_with

# What svc.startd puts a backslash before in a property's value (section 5).
_ESCAPED = re.compile(r"([;&()|^<>\n \t\\\"'`])")

METHOD_SECONDS = 60.0
"""What the manifest gives the method, and the unit its command."""

_UNIT_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"}


def check_method(shell: Shell, program: str, root: Root | None = None, zone: str = "global") -> Finding | None:
    """Run the start method as svc.startd would, before or after install; None if its answer is one of its own.

    The shell, the words and the environment are the restarter's, that of /etc/default/init below `root` included
    (reference "smf", sections 5 and 6). What it finds on the system is not judged here.
    """
    check_program_path(program)
    words = _ESCAPED.sub(r"\\\1", program)
    environment = {
        "PATH": "/usr/sbin:/usr/bin",
        "SMF_FMRI": FMRI,
        "SMF_METHOD": "start",
        "SMF_RESTARTER": "svc:/system/svc/restarter:default",
        "SMF_ZONENAME": zone,
        **_defaults(Root("/") if root is None else root),
        "LD_NOCONFIG": "yes",
    }
    try:
        ran = shell.run(
            ("/sbin/sh", "-c", f"exec {words} verify --smf"), seconds=METHOD_SECONDS, environment=environment
        )
    except CommandError as error:
        return _no_method(program, error.what)
    return _judged(program, ran, tuple(NAMES), (ERR_FATAL, ERR_NOSMF), "memproxy-sol: SMF_EXIT_")


def check_unit(shell: Shell, program: str) -> Finding | None:
    """Run the unit's command as systemd would (systemd.exec(5) has its environment); otherwise as `check_method`."""
    unit_with(program)
    try:
        ran = shell.run((program, "verify", "--boot"), seconds=METHOD_SECONDS, environment=_UNIT_ENVIRONMENT)
    except CommandError as error:
        return _no_method(program, error.what)
    return _judged(program, ran, (EXIT_OK, EXIT_FAILED, EXIT_DIFFERENCES), (EXIT_FAILED,), "memproxy-sol: ")


def _judged(program: str, ran: Ran, statuses: tuple[int, ...], doubtful: tuple[int, ...], begin: str) -> Finding | None:
    """What is wrong with an answer that has to have one of `statuses`, and `begin` on its last line."""
    lines = [line for line in ran.out.splitlines() if line.strip()]
    if ran.status < 0:
        return _no_method(program, f"is ended by signal {-ran.status}: {ran.words}")
    if ran.status not in statuses:
        return _no_method(program, f"ends with status {ran.status}: {ran.words}")
    if not lines or not lines[-1].startswith(begin):
        return _no_method(program, "is another program than memproxy-sol: it does not say what it found")
    if ran.status in doubtful:
        return replace(_no_method(program, f"answers: {printable(lines[-1])}"), severity=WARNING)
    return None


def _no_method(program: str, why: str) -> Finding:
    text = f"started as the service's method it {why}"
    hint = "install memproxy-sol there, or set service = false in the policy"
    return Finding("service-method", ERROR, program, text, hint)


def _defaults(root: Root) -> dict[str, str]:
    """What /etc/default/init gives every method: NAME=value lines, without the mask for new files."""
    state = root.read("/etc/default/init")
    lines = state.data.decode("utf-8", "surrogateescape").splitlines() if state else []
    pairs = (line.strip().partition("=") for line in lines if not line.lstrip().startswith("#"))
    return {name: value.strip("\"'") for name, sign, value in pairs if sign and name.isidentifier() and name != "CMASK"}
