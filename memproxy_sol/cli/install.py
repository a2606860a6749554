"""`memproxy-sol install`: bring a host to the policy; `plan` (plan.py) is the same without the change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from plumbum import cli

from memproxy_sol import change, report
from memproxy_sol import verify as verification
from memproxy_sol.change import Refusal, Wishes
from memproxy_sol.cli.target import TargetCommand
from memproxy_sol.errors import EXIT_DIFFERENCES, EXIT_OK, PolicyError, UsageError
from memproxy_sol.journal import unfinished
from memproxy_sol.lock import locked
from memproxy_sol.plan import Plan
from memproxy_sol.policy import check
from memproxy_sol.root import Root
from memproxy_sol.trial import TrialError

MIN_TRIAL, MAX_TRIAL = 1, 86400
"""Seconds that a trial may last."""


class InstallSwitches(TargetCommand):
    """What install and plan are asked for."""

    bits: Any = cli.SwitchAttr(["--bits"], str, argname="32,64", help="The ABIs to configure (default: all)")
    allocators: Any = cli.SwitchAttr(
        ["--allocator"],
        str,
        list=True,
        argname="FILE",
        help="The custom allocator's shared object on this machine; its ABI is read from it; repeatable",
    )
    without_allocator = cli.Flag(
        ["--without-allocator"],
        help="Install libmemproxy alone; otherwise the installed allocator stays",
    )
    libraries: Any = cli.SwitchAttr(
        ["--libraries"],
        str,
        argname="DIR",
        help="Take libmemproxy from DIR, filled by memproxy-sol build, instead of building it",
    )
    policy_file: Any = cli.SwitchAttr(
        ["--policy"],
        str,
        argname="FILE",
        help="The policy on this machine (default: /etc/memproxy.toml of the target, if there)",
    )
    prefix: Any = cli.SwitchAttr(
        ["--prefix"], str, argname="DIR", help="Generations go to DIR/lib/memproxy on the target (default: /usr/local)"
    )
    json: Any = cli.Flag(["--json"], help="Print the plan as JSON")

    def wishes(self, root: Root) -> Wishes:
        """The policy file with the switches laid over it."""
        policy = change.read_policy(root, self.policy_file)
        try:
            if self.prefix is not None:
                policy = replace(policy, prefix=check("prefix", self.prefix, "--prefix"))
        except PolicyError as error:
            raise UsageError(error.what, where=error.where, hint=error.hint) from None
        chosen = self.parsed_bits(self.bits)
        if chosen is not None:
            policy = replace(policy, bits=chosen)
        if self.without_allocator and self.allocators:
            raise UsageError("--without-allocator and --allocator contradict each other", hint="leave one out")
        return Wishes(policy, tuple(self.allocators), bool(self.without_allocator), self.libraries)

    def planned(self, root: Root, wishes: Wishes) -> Plan:
        """The plan; what preflight has against it is printed before Refusal is raised."""
        try:
            return change.plan_install(self.target(root), wishes, report.progress)
        except Refusal as refusal:
            if self.json:
                report.print_json({"what": "install", "findings": [f.to_json() for f in refusal.findings]})
            else:
                report.findings(refusal.findings, stderr=True)
            raise

    def shown(self, root: Root) -> int:
        """Print the plan and change nothing; 3 if it has steps."""
        cut_short = unfinished(root)
        if cut_short is not None:
            report.progress(f"change {cut_short.number} ({cut_short.what}) was cut short; install takes it back first")
        plan = self.planned(root, self.wishes(root))
        if self.json:
            report.print_json(plan.to_json())
        else:
            report.plan(plan)
        return EXIT_DIFFERENCES if plan.steps else EXIT_OK


class Install(InstallSwitches):
    """Puts libmemproxy and an allocator into a host and makes the runtime linker preload them into every process."""

    DESCRIPTION = "Puts libmemproxy and an allocator in front of every process of a host"
    DESCRIPTION_MORE = """
Builds what is missing, checks everything that could keep a process from starting, places a generation, writes the
runtime linker's configuration for each ABI, the exclusion list if there is none and the SMF service, and verifies the
result. Nothing of others is lost; a second run changes nothing. On the running system crle writes the configurations,
programs of each ABI are started with them before they are in force and again afterwards, and whatever fails takes the
change back.

    memproxy-sol install --try 300 --allocator /opt/lib/a.so --allocator /opt/lib/64/a.so
    memproxy-sol install --root /mnt/be --allocator a.so --allocator 64/a.so
"""

    dry_run = cli.Flag(["--dry-run"], help="Print the plan and change nothing (the same as memproxy-sol plan)")
    try_: Any = cli.SwitchAttr(
        ["--try"],
        cli.Range(MIN_TRIAL, MAX_TRIAL),
        argname="SECONDS",
        help="Take the change back by itself unless memproxy-sol confirm is typed within so many seconds",
    )

    def main(self) -> int:
        root = self.opened()
        if self.try_ is not None and not root.is_live:
            raise UsageError("--try is for the running system", hint="nothing of an image can be tried here")
        if self.dry_run:
            return self.shown(root)
        with locked(root):
            target = self.target(root)
            mended = change.mend_unfinished(target)
            if mended is not None:
                report.say(mended)
            wishes = self.wishes(root)
            plan = self.planned(root, wishes)
            if self.json:
                report.print_json(plan.to_json())
            else:
                report.plan(plan)
            try:
                outcome = change.carry_out(target, plan, wishes.policy, self.try_, report.progress)
            except TrialError as error:
                report.findings(error.findings, stderr=True)
                raise
            if outcome.seconds is not None:
                report.findings(outcome.findings, stderr=bool(self.json))
                report.on_trial(outcome.seconds, stderr=bool(self.json))
                return EXIT_OK
            result = verification.verify(root, host=self.host, release=self.release, machine=self.machine)
        result = replace(result, findings=tuple(dict.fromkeys((*outcome.findings, *result.findings))))
        if not self.json:
            shown = {f.identifier for f in plan.findings}
            report.verification(
                replace(result, findings=tuple(f for f in result.findings if f.identifier not in shown))
            )
        return EXIT_DIFFERENCES if result.errors else EXIT_OK
