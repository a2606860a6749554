"""The check of systemd's unit, `memproxy-sol verify --boot`: the same as SMF's method, with a plain exit status.

Standard library and our own modules only, those of the check imported in its child (smf_method.py).
"""

from __future__ import annotations

from memproxy_sol import smf_method
from memproxy_sol.errors import EXIT_DIFFERENCES, EXIT_FAILED, EXIT_OK, EXIT_USAGE
from memproxy_sol.smf_method import ERR_CONFIG, ERR_FATAL, LIMIT_SECONDS, OK, Answer

_STATUSES = {OK: EXIT_OK, ERR_CONFIG: EXIT_DIFFERENCES}
"""What the statuses of SMF are here; whatever else it is could not be determined."""
_WORDS = {EXIT_OK: "ok", EXIT_DIFFERENCES: "wrong", EXIT_FAILED: "not determined", EXIT_USAGE: "usage"}


def main(argv: list[str], limit: float = LIMIT_SECONDS) -> int:
    """Verify at boot, `argv` being what follows `verify`; return the exit status, never raise.

    `--root DIR` looks at another tree than `/`. A trial that a reboot has left is taken back first. Standard output
    gets each finding on a line, then the reason and the mending command on the last one.
    """
    status = None
    try:
        path, strange = smf_method.tree(argv, "--boot")
        if strange is not None or not path:
            what = "--root names no directory" if strange is None else f"verify --boot takes no argument {strange!r}"
            answer = Answer(ERR_FATAL, what, "memproxy-sol install brings the unit up to date")
            status = EXIT_USAGE
        else:
            answer = smf_method.in_child(path, limit)
    except BaseException as error:  # KeyboardInterrupt and MemoryError included: nothing else may decide
        answer = smf_method.internal(error)
    status = _STATUSES.get(answer.status, EXIT_FAILED) if status is None else status
    hint = f"; {answer.hint}" if answer.hint else ""
    smf_method.write(f"memproxy-sol: {_WORDS[status]} ({status}): {answer.reason}{hint}")
    return status
