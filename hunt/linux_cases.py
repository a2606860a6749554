"""Linux cases: the changes of a real Linux that are cut short or failed, alone and with others in the list."""

from __future__ import annotations

from hunt.cases import Scenario
from hunt.linux_ground import FOR_ROOT, FOR_SERVICES, LinuxGround

BEFORE, AFTER = ("others", "before"), ("others", "after")


def scenarios(ground: LinuxGround) -> tuple[Scenario, ...]:
    """The changes of a host, one that is tried, one that is taken back; each also where others are in the list."""
    plain, other = ground.install(ground.first), ground.install(ground.second)
    tried = (*plain, "--try", "600")
    among = (BEFORE, plain, AFTER)
    """Our entry between two of others."""
    return (
        Scenario("install", (), plain),
        Scenario("install behind others", (BEFORE,), plain),
        Scenario("upgrade", (plain,), other),
        Scenario("upgrade among others", among, other),
        Scenario("upgrade for root alone", (plain,), (*other, "--policy", FOR_ROOT)),
        Scenario("upgrade for services", among, (*other, "--policy", FOR_SERVICES), keeps_files=False),
        Scenario("uninstall", (plain,), ("uninstall",), keeps_files=False),
        Scenario("uninstall among others", among, ("uninstall",), keeps_files=False),
        Scenario("purge", (plain, ("uninstall",)), ("uninstall", "--purge")),
        Scenario("rollback", (plain, other), ("rollback",)),
        Scenario("rollback among others", (*among, other), ("rollback",)),
        Scenario("rollback to nothing", (plain,), ("rollback",), keeps_files=False),
        Scenario("rollback from services", (*among, (*other, "--policy", FOR_SERVICES)), ("rollback",)),
        Scenario("install --try", (), tried),
        Scenario("install --try behind others", (BEFORE,), tried),
        Scenario("confirm without its guard", (BEFORE, tried), ("confirm",)),
        Scenario("a probe fails", (plain,), other, fails=True),
        Scenario("a probe fails among others", among, other, fails=True),
        Scenario("guard: install", (BEFORE,), plain, guard=True),
        Scenario("guard: upgrade", (plain,), other, guard=True),
        Scenario("guard: a probe fails", (plain,), other, guard=True, fails=True),
        Scenario("guard: install --try and confirm", (BEFORE,), (*tried, ";", "confirm"), guard=True),
        Scenario("guard: install --try and back", (BEFORE,), (*tried, ";", "uninstall"), guard=True),
    )
