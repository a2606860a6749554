"""What every command that changes nothing of a host says first, if a change of it is not finished."""

from __future__ import annotations

from memproxy_sol import changes
from memproxy_sol.root import Root


def told(root: Root) -> Root:
    """`root`, after a word on standard error about a change of it that is not finished."""
    notice = changes.notice(root)
    if notice is not None:
        from memproxy_sol import report

        report.say(notice)
    return root
