"""`memproxy-sol install`: bring a host to the policy; `plan` (plan.py) is the same without the change."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from plumbum import cli

from memproxy_sol import boot_environment, change, report, signals
from memproxy_sol import verify as verification
from memproxy_sol.change import Refusal, Target, Wishes
from memproxy_sol.cli.target import TargetCommand
from memproxy_sol.errors import EXIT_DIFFERENCES, EXIT_OK, BootEnvironmentError, PolicyError, UsageError
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

    def planned(self, target: Target, wishes: Wishes) -> Plan:
        """The plan; what preflight has against it is printed before Refusal is raised."""
        try:
            return change.plan_install(target, wishes, report.progress)
        except Refusal as refusal:
            if self.json:
                report.print_json({"what": "install", "findings": [f.to_json() for f in refusal.findings]})
            else:
                report.findings(refusal.findings, stderr=True)
            raise

    def shown(self, target: Target) -> int:
        """Print the plan and change nothing; 3 if it has steps."""
        plan = self.planned(target, self.wishes(target.root))
        self.print_plan(plan)
        return EXIT_DIFFERENCES if plan.steps else EXIT_OK

    def print_plan(self, plan: Plan) -> None:
        """The plan on standard output, as it was asked for."""
        if self.json:
            report.print_json(plan.to_json())
        else:
            report.plan(plan)


class Install(InstallSwitches):
    """Puts libmemproxy and an allocator into a host and makes the runtime linker preload them into every process."""

    USAGE = "    {progname} [SWITCHES]\n    {progname} [SWITCHES] --boot-env [NAME]\n"
    DESCRIPTION = "Puts libmemproxy and an allocator in front of every process of a host"
    DESCRIPTION_MORE = """
Builds what is missing, checks everything that could keep a process from starting, places a generation, writes the
runtime linker's configuration for each ABI, the exclusion list if there is none and the service, and verifies the
result. Nothing of others is lost; a second run changes nothing. On the running system crle writes the configurations,
programs of each ABI are started with them before they are in force and again afterwards, and whatever fails takes the
change back.

    memproxy-sol install --try 300 --allocator /opt/lib/a.so --allocator /opt/lib/64/a.so

    memproxy-sol install --boot-env --allocator /opt/lib/a.so --allocator /opt/lib/64/a.so

    memproxy-sol install --root /mnt/be --first-boot-trial --allocator a.so --allocator 64/a.so
"""

    dry_run = cli.Flag(["--dry-run"], help="Print the plan and change nothing (the same as memproxy-sol plan)")
    try_: Any = cli.SwitchAttr(
        ["--try"],
        cli.Range(MIN_TRIAL, MAX_TRIAL),
        argname="SECONDS",
        help="Take the change back by itself unless memproxy-sol confirm is typed within so many seconds",
    )

    first_boot_trial = cli.Flag(
        ["--first-boot-trial"],
        help="Leave the configurations of an image as they are, until the service has tried the new ones at its boot",
    )
    boot_env = cli.Flag(
        ["--boot-env"],
        help="Make the change in a clone of the running boot environment (called NAME), and boot that just once",
    )

    def wishes(self, root: Root) -> Wishes:
        """As of InstallSwitches, with what is left to the first boot."""
        return replace(super().wishes(root), first_boot=bool(self.first_boot_trial))

    def main(self, name: str = "") -> int:
        root = self.looked_at() if self.dry_run else self.opened()
        if name and not self.boot_env:
            raise UsageError(f"unexpected argument {name!r}", hint=f"see {self.PROGNAME} --help")
        if self.boot_env and (self.try_ is not None or not root.is_live):
            raise UsageError(f"--boot-env and {'--root' if self.try_ is None else '--try'} contradict each other")
        if self.try_ is not None and not root.is_live:
            raise UsageError("--try is for the running system", hint="nothing of an image can be tried here")
        if self.first_boot_trial and root.is_live and not self.boot_env:
            text = "--first-boot-trial is for an image, or with --boot-env"
            raise UsageError(text, hint="the running system is tried at once")
        # What the clone will be like: the same tree, not running.
        unmade = self.clone_of(Root(root.path, live=False))
        if self.dry_run:
            return self.shown(unmade if self.boot_env else self.target(root))
        target = self.target(root)
        target.refuse_foreign()
        with signals.caught(), locked(root):
            mended = change.mend_unfinished(target)
            if mended is not None:
                report.say(mended)
            wishes = self.wishes(root)
            plan = self.planned(target, wishes)
            if self.boot_env:
                plan = self.planned(unmade, wishes)
                if plan.steps:
                    return self.in_clone(target, wishes, name or None)
            self.print_plan(plan)
            return EXIT_OK if self.boot_env else self.carried_out(target, plan, wishes)

    def carried_out(self, target: Target, plan: Plan, wishes: Wishes) -> int:
        """Carry out a plan that was printed, and verify what has come of it."""
        try:
            outcome = change.carry_out(target, plan, wishes.policy, self.try_, report.progress)
        except TrialError as error:
            report.findings(error.findings, stderr=True)
            raise
        if outcome.seconds is not None:
            report.findings(outcome.findings, stderr=bool(self.json))
            report.on_trial(outcome.seconds, stderr=bool(self.json))
            return EXIT_OK
        result = verification.verify(target.root, host=self.host, release=self.release, machine=self.machine)
        result = replace(result, findings=tuple(dict.fromkeys((*outcome.findings, *result.findings))))
        if not self.json:
            shown = {f.identifier for f in plan.findings}
            report.verification(
                replace(result, findings=tuple(f for f in result.findings if f.identifier not in shown))
            )
        return EXIT_DIFFERENCES if result.errors else EXIT_OK

    def in_clone(self, target: Target, wishes: Wishes, name: str | None) -> int:
        """Make the change in a clone of the running system, which preflight has nothing against, and boot it once."""

        def bring(root: Root) -> None:
            clone = self.clone_of(root)
            with locked(root):
                plan = self.planned(clone, wishes)
                self.print_plan(plan)
                if self.carried_out(clone, plan, wishes) != EXIT_OK:
                    text = "is not as it was to be, so it is not booted"
                    raise BootEnvironmentError(text, where="the clone", hint="mend what verify shows and try again")

        assert target.shell is not None
        report.progress("clone the running boot environment")
        chosen = boot_environment.clone(target.shell, target.root, bring, name, self.repeated())
        report.booted_once(chosen, stderr=bool(self.json))
        return EXIT_OK

    def clone_of(self, root: Root) -> Target:
        """A tree that is no running system, and the same machine's."""
        return replace(self.target(root), native=True)

    def repeated(self) -> list[str]:
        """The switches to say again where the change has to be made by hand."""
        words: list[str] = []
        for switch in ("bits", "libraries", "policy_file", "prefix", "host", "release", "machine"):
            value = getattr(self, switch)
            words += [] if value is None else [f"--{switch.partition('_')[0]}", value]
        words += ["--without-allocator"] if self.without_allocator else []
        words += ["--first-boot-trial"] if self.first_boot_trial else []
        return words + [word for path in self.allocators for word in ("--allocator", os.path.abspath(path))]
