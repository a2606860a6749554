"""`memproxy-sol confirm`: make a change permanent that `install --try` has put on trial."""

from __future__ import annotations

from collections.abc import Sequence

from memproxy_sol import change, report, trial
from memproxy_sol.cli.application import Command
from memproxy_sol.errors import EXIT_OK, MemproxyError
from memproxy_sol.findings import Finding
from memproxy_sol.live import look_again
from memproxy_sol.lock import locked
from memproxy_sol.root import Root
from memproxy_sol.trial import TrialError


class Confirm(Command):
    """Makes the change that is on trial permanent."""

    DESCRIPTION = "Makes a change permanent that install --try has put on trial"
    DESCRIPTION_MORE = """
Type it from a NEW login: that you can log in is the best proof. It starts programs of every ABI first, as root and as
an unprivileged user; if one of them does not start, the change is taken back at once. Exit status: 0 the change is
permanent, 1 it is not (no trial is pending, its time was over, or programs do not start).
"""

    def main(self) -> int:
        target = change.Target(Root("/"))
        root, services = target.root, target.services
        target.refuse_foreign()
        trial.refuse_none(root)  # before the lock, which is a file
        with locked(root):
            try:
                done = trial.confirm(root, lambda bits: _prove(target, bits), services)
            except TrialError as error:
                report.findings(error.findings, stderr=True)
                raise
            finally:
                report.findings(services.findings if services else (), stderr=True)
            report.findings(done.findings, stderr=True)
            if services is not None:
                report.findings(look_again(services), stderr=True)
        alone = "" if done.guarded else " (its guard was gone, so this process put the files in place)"
        report.say(f"change {done.change.number} ({done.change.what}) is permanent{alone}")
        return EXIT_OK


def _prove(target: change.Target, bits: Sequence[int]) -> tuple[Finding, ...]:
    try:
        commands = change.read_policy(target.root, None).probes
    except MemproxyError as error:
        # What the administrator has written since must not decide whether a change that works may stay.
        report.say(f"the policy's probes are left out: {error}")
        commands = ()
    return trial.prove(target.root, target.prober, bits, commands)
