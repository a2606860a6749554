"""svcs: states of instances (section 9)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.host.laboratory.smf_call import Call, UsageError
from tests.host.laboratory.smf_dependencies import cited, dependencies, dependents, state_of
from tests.host.laboratory.smf_explain import explain
from tests.host.laboratory.smf_repository import Instance

if TYPE_CHECKING:
    from tests.host.laboratory.smf import Smf

SHORT = {
    "uninitialized": "UN",
    "disabled": "DIS",
    "offline": "OFF",
    "online": "ON",
    "degraded": "DGD",
    "maintenance": "MNT",
    "legacy_run": "LRC",
}
_ONE_LETTER = {"UN": "u", "DIS": "d", "OFF": "0", "ON": "1", "DGD": "D", "MNT": "m", "LRC": "L", "-": "-"}
_ORDER = ("uninitialized", "disabled", "offline", "maintenance", "degraded", "online")
_WIDTHS = {
    "fmri": 50, "state": 14, "nstate": 13, "sta": 4, "nsta": 4, "s": 1, "ns": 2, "stime": 8, "ctid": 6, "desc": 60,
    "inst": 16, "svc": 15, "zone": 32,
}  # fmt: skip
_USAGE = """\
Usage: svcs [-aHpv] [-o col[,col ... ]] [-R restarter] [-sS col] [-Z | -z zone ]
            [<service> ...]
       svcs -d | -D [-Hpv] [-o col[,col ... ]] [-sS col] [-Z | -z zone ]
            [<service> ...]
       svcs [-l | -L] [-Z | -z zone] <service> ...
       svcs -x [-v] [-Z | -z zone] [<service> ...]
       svcs -?
"""


def main(smf: Smf, call: Call) -> int:
    """The command; returns its exit status."""
    letters = "aDdHlo:pR:s:S:vx?" if smf.release == "10" else "aDdHLlo:pR:s:S:vxz:Z?"
    try:
        options, names = call.options(call.arguments, letters)
        given = dict(options)
        if ("-l" in given or "-L" in given) and not names:
            raise UsageError
        if "-D" in given and "-d" in given:
            raise UsageError
    except UsageError as error:
        call.put(f"{error}\n" if str(error) else "")
        call.put(_USAGE)
        return 2
    if not smf.reachable:
        call.warn("Could not bind to repository server: repository server unavailable.  Exiting.")
        return 1
    smf.observe()
    columns = ["state", "stime", "fmri"]
    if "-v" in given and "-x" not in given:
        columns = ["state", "nstate", "stime", "ctid", "fmri"]
    asked = [column.lower() for option, value in options if option == "-o" for column in value.split(",")]
    for column in asked:
        if column not in _WIDTHS:
            call.warn(f'Unknown column "{column}".')
            return 1
    found, status = _instances(smf, call, names, all_of_them="-a" in given or "-x" in given or "-D" in given)
    if "-L" in given:
        for instance in found:
            log = instance.restarter("logfile")
            if log is not None:
                call.say(log)
        return status
    if "-l" in given:
        for index, instance in enumerate(found):
            if index:
                call.say("")
            _long(smf, call, instance)
        return status
    if "-x" in given:
        explain(smf, call, found if names else None, verbose="-v" in given)
        return status
    if "-d" in given:
        found = _unique(
            one
            for i in found
            for d in dependencies(i)
            if d.type == "service"
            for f in d.entities
            for one in cited(smf, f)
        )
    elif "-D" in given:
        found = _unique(other for instance in found for other, _ in dependents(smf, instance))
    _table(smf, call, found, asked or columns, heading="-H" not in given, processes="-p" in given)
    return status


def _unique(instances: object) -> list[Instance]:
    return list({one.fmri: one for one in instances}.values())  # type: ignore[attr-defined]


def _instances(smf: Smf, call: Call, names: list[str], all_of_them: bool) -> tuple[list[Instance], int]:
    """The instances that the arguments name, in order, and the exit status so far."""
    if not names:
        return [one for one in smf.repository.instances() if all_of_them or one.enabled], 0
    found: dict[str, Instance] = {}
    status = 0
    for name in names:
        match = smf.repository.match(name)
        if not match.instances():
            call.warn(f"Pattern '{match.pattern}' doesn't match any instances")
            status = 1
        for instance in match.instances():
            found.setdefault(instance.fmri, instance)
    return list(found.values()), status


def _table(smf: Smf, call: Call, instances: list[Instance], columns: list[str], heading: bool, processes: bool) -> None:
    def line(cells: list[str]) -> str:
        padded = [cell.ljust(_WIDTHS[column]) for cell, column in zip(cells, columns)]
        return " ".join(padded).rstrip()

    if heading:
        call.say(line([column.upper() for column in columns]))

    def key(one: Instance) -> tuple[int, float, str]:
        order = _ORDER.index(one.state) if one.state in _ORDER else -1
        return order, float(one.restarter("state_timestamp") or 0), one.fmri

    for instance in sorted(instances, key=key):
        call.say(line([_cell(smf, instance, column, columns) for column in columns]))
        method = instance.runtime.method
        if processes and method is not None and method.process:
            call.say(f"{'':15}{_stime(smf, method.since):8}   {method.pid:6} {method.process}")


def _cell(smf: Smf, instance: Instance, column: str, columns: list[str]) -> str:
    state = instance.state or "-"
    changing = instance.next_state not in ("none", "")
    star = "*" if changing and not {"nstate", "nsta", "ns"} & set(columns) else ""
    following = instance.next_state if changing else "-"
    if column == "state":
        return state + star
    if column == "nstate":
        return following
    if column == "sta":
        return SHORT.get(state, "-") + star
    if column == "nsta":
        return SHORT.get(following, "-")
    if column == "s":
        return _ONE_LETTER[SHORT.get(state, "-")] + star
    if column == "ns":
        return _ONE_LETTER[SHORT.get(following, "-")]
    if column == "stime":
        stamp = instance.restarter("state_timestamp")
        return "-" if stamp is None else _stime(smf, float(stamp))
    if column == "desc":
        return common_name(instance) or "-"
    return {"fmri": instance.fmri, "inst": instance.name, "svc": instance.service.name, "zone": smf.zone}.get(
        column, "-"
    )


def _stime(smf: Smf, stamp: float) -> str:
    then = time.gmtime(stamp)
    if smf.now - stamp < 86400:
        return time.strftime("%k:%M:%S", then)
    return time.strftime("%b_%d" if smf.now - stamp < 360 * 86400 else "%Y", then)


def common_name(instance: Instance) -> str | None:
    """From the template."""
    found = instance.look_up("tm_common_name", "C", "running")
    return found.values[0] if found is not None else None


def _long(smf: Smf, call: Call, instance: Instance) -> None:
    from tests.host.laboratory.smf import date

    def line(key: str, value: str | None) -> None:
        if value is not None:
            call.say(f"{key:<12} {value}".rstrip())

    line("fmri", instance.fmri)
    line("name", common_name(instance))
    temporary = instance.look_up("general_ovr", "enabled")
    lasting = instance.look_up("general", "enabled")
    differs = temporary is not None and (lasting is None or temporary.values != lasting.values)
    line("enabled", str(instance.enabled).lower() + (" (temporary)" if differs else ""))
    line("state", instance.state or "-")
    line("next_state", instance.next_state)
    stamp = instance.restarter("state_timestamp")
    line("state_time", None if stamp is None else date(float(stamp)))
    line("logfile", instance.restarter("logfile"))
    restarter = instance.look_up("general", "restarter")
    line("restarter", restarter.values[0] if restarter else "svc:/system/svc/restarter:default")
    for one in dependencies(instance):
        cites = " ".join(f"{fmri} ({state_of(smf, one, fmri)})" for fmri in one.entities)
        line("dependency", f"{one.grouping}/{one.restart_on} {cites}")
