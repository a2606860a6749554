"""svcadm: requests (section 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.host.laboratory.smf_call import Call, NeverReturns, UsageError
from tests.host.laboratory.smf_dependencies import cited, dependencies, unmet
from tests.host.laboratory.smf_repository import Instance

if TYPE_CHECKING:
    from tests.host.laboratory.smf import Smf

UP = ("online", "degraded")
_USAGE = """\
Usage: svcadm [-S <state>] [-v] [-Z | -z zone] [cmd [args ... ]]

	svcadm enable [-rst] [<service> ...]	- enable and online service(s)
	svcadm disable [-c comment] [-st] [<service> ...] - disable service(s)
	svcadm restart [-d] [<service> ...]	- restart specified service(s)
	svcadm refresh [<service> ...]		- re-read service configuration
	svcadm mark [-It] <state> [<service> ...] - set maintenance state
	svcadm clear [<service> ...]		- clear maintenance state
	svcadm milestone [-d] <milestone>	- advance to a service milestone

	Services can be specified using an FMRI, abbreviation, or fnmatch(5)
	pattern, as shown in these examples for svc:/network/smtp:sendmail

	svcadm <cmd> svc:/network/smtp:sendmail
	svcadm <cmd> network/smtp:sendmail
	svcadm <cmd> network/*mail
	svcadm <cmd> network/smtp
	svcadm <cmd> smtp:sendmail
	svcadm <cmd> smtp
	svcadm <cmd> sendmail
"""
_LETTERS = {"enable": "rst", "disable": "c:st", "restart": "d", "refresh": "", "clear": "", "mark": "It"}


def main(smf: Smf, call: Call) -> int:
    """The command; returns its exit status."""
    try:
        general, rest = call.options(call.arguments, "S:vZz:")
        if not rest or rest[0] not in _LETTERS:
            raise UsageError
        command, letters = rest[0], _LETTERS[rest[0]]
        if command == "disable" and smf.release != "illumos":
            letters = "st"
        options, names = call.options(rest[1:], letters)
        if command == "mark":
            if not names or names[0] not in ("maintenance", "degraded"):
                raise UsageError
            command, names = f"mark {names[0]}", names[1:]
        if not names:
            raise UsageError
    except UsageError as error:
        call.put(f"{error}\n" if str(error) else "")
        call.put(_USAGE)
        return 2
    if not smf.reachable:
        call.warn("Couldn't bind to configuration repository: repository server unavailable.")
        return 1
    return _Request(smf, call, command, dict(options), "-v" in dict(general)).all(names)


class _Request:
    def __init__(self, smf: Smf, call: Call, command: str, given: dict[str, str], verbose: bool) -> None:
        self.smf, self.call, self.command, self.given, self.verbose = smf, call, command, given, verbose
        self.status = 0

    def all(self, names: list[str]) -> int:
        chosen: list[Instance] = []
        for name in names:
            match = self.smf.repository.match(name)
            found = match.instances()
            if not found:
                self.fail(f"Pattern '{match.pattern}' doesn't match any instances")
            elif len(found) > 1 and not match.exact and not match.glob:
                listed = "".join(f"\n\t{one.fmri}" for one in found)
                self.fail(f"Partial FMRI '{name}' matches multiple instances:{listed}")
            else:
                chosen += found
        if "-r" in self.given:
            chosen = self._with_required(chosen)
        for instance in chosen:
            self._one(instance)
        if "-s" in self.given and not self.status and self.command in ("enable", "disable"):
            for instance in chosen:
                self._wait(instance)
        return self.status

    def fail(self, message: str, status: int = 1) -> None:
        self.call.warn(message)
        self.status = status

    def _with_required(self, chosen: list[Instance]) -> list[Instance]:
        found = {one.fmri: one for one in chosen}
        todo = list(chosen)
        while todo:
            for dependency in dependencies(todo.pop()):
                if dependency.grouping == "require_all" and dependency.type == "service":
                    for one in (one for fmri in dependency.entities for one in cited(self.smf, fmri)):
                        if one.fmri not in found:
                            found[one.fmri] = one
                            todo.append(one)
        return list(found.values())

    def _one(self, instance: Instance) -> None:
        command, fmri = self.command, instance.fmri
        temporary = "-t" in self.given
        if self.call.uid != 0:
            self.call.warn(f"{fmri}: Permission denied.")
            lenient = self.smf.release == "10" and command in ("restart", "refresh", "clear")
            self.status = self.status if lenient else 1  # fact 8 of section 1
            return
        if command in ("enable", "disable"):
            self.smf.restarter.set_enabled(instance, command == "enable", temporary, self.given.get("-c", ""))
            self.say(f"{fmri} {'temporarily ' if temporary else ''}{command}d.")
        elif command == "clear":
            if instance.state not in ("maintenance", "degraded"):
                self.fail(f'Instance "{fmri}" is not in a maintenance or degraded state.')
                return
            self.smf.restarter.request(instance, "clear")
            self.say(f"Action maint_off set for {fmri}.")
        elif command == "mark maintenance":
            self.smf.restarter.request(instance, "maintenance")
            self.say(f"Action maint_on set for {fmri}.")
        elif command in ("restart", "refresh"):
            self.smf.restarter.request(instance, command)
            self.say(f"Action {command} set for {fmri}.")
        # mark degraded is stored and has no effect (section 11)

    def say(self, line: str) -> None:
        if self.verbose:
            self.call.say(line)

    def _wait(self, instance: Instance) -> None:
        self.smf.restarter.settle()
        state, fmri = instance.state, instance.fmri
        if self.command == "disable":
            if state == "maintenance":
                self.fail(f'Instance "{fmri}" is in maintenance state.', 3)
            elif state != "disabled":
                self.fail(f'Instance "{fmri}" has been enabled by another entity.', 3)
            return
        if state in UP:
            return
        if state == "maintenance":
            self.fail(f'Instance "{fmri}" is in maintenance state.', 3)
        elif state == "disabled":
            self.fail(f'Instance "{fmri}" has been disabled by another entity.', 3)
        elif any(how == "absent" for _, how in unmet(self.smf, instance)):
            raise NeverReturns(f"svcadm enable -s {fmri}: a dependency is absent")
        else:
            self.fail(f'Instance "{fmri}" has unsatisfied dependencies.', 4)
