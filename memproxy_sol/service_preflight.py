"""Service preflight: whether the service's method can be started as svc.startd starts it, before SMF is told of it."""

from __future__ import annotations

import re
from dataclasses import replace

from memproxy_sol.commands import Shell
from memproxy_sol.errors import CommandError, printable
from memproxy_sol.findings import ERROR, WARNING, Finding
from memproxy_sol.root import Root
from memproxy_sol.smf_manifest import FMRI, check_program_path
from memproxy_sol.smf_method import ERR_FATAL, ERR_NOSMF, NAMES

# What svc.startd puts a backslash before in a property's value (section 5).
_ESCAPED = re.compile(r"([;&()|^<>\n \t\\\"'`])")

METHOD_SECONDS = 60.0
"""What the manifest gives the method."""


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
    lines = [line for line in ran.out.splitlines() if line.strip()]
    if ran.status < 0:
        return _no_method(program, f"is ended by signal {-ran.status}: {ran.words}")
    if ran.status not in NAMES:
        return _no_method(program, f"ends with status {ran.status}: {ran.words}")
    if not lines or not lines[-1].startswith("memproxy-sol: SMF_EXIT_"):
        return _no_method(program, "is another program than memproxy-sol: it does not say what it found")
    if ran.status in (ERR_FATAL, ERR_NOSMF):
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
