"""The laboratory's SMF, held to what a running illumos said and did (tests/data/smf/smf.json)."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from tests.host.smf_replay import FMRI, IMPORT_LOG, LOG, RECORDS, Machine, Replay, machine

UNMODELLED: dict[tuple[str, object], str] = {
    (
        "context-user-daemon",
        "log",
    ): "the emulated machine did not let the method's ksh open /dev/null (its note says so)",
    ("after-reboot", (1, "stdout")): "taken while the machine still booted (its note says so)",
    ("import-early", (5, "stdout")): "ls -l of the manifests, whose sizes are those of the record's texts",
    ("preload-broken", (2, "stdout")): "the bytes of a configuration are held to crle's own recordings",
}
"""What is not replayed, by record and what, with the reason."""

CHAIN = (
    "import-early",
    "import-restart-new",
    "import-restart-again",
    "import-restart-deleted",
    "import-restart-changed",
    "import-restart-badfile",
    "import-by-hand-standard-place",
    "import-restart-vanished",
    "import-restart-vanished-elsewhere",
    "before-reboot",
    "after-reboot",
    "profile-apply",
    "remove-file-before-reboot",
    "after-removal-reboot",
)
"""Records that tell one story, on one machine."""

BREAK = ("crle", "-64", "-c", "/var/ld/64/ld.config", "-e", "LD_PRELOAD_64=/missing.so")


@pytest.fixture
def here(tmp_path: Path) -> Machine:
    return machine(tmp_path / "top")


def _validate(replay: Replay) -> None:
    """Files first; then memproxy is imported, and at last with a violation."""
    replay.files()
    good = (replay.here.lab.path("/opt/t/m/good.xml")).read_bytes()
    for name in ("with blank.xml", "with=equal.xml", "noextension"):
        replay.here.lab.write(f"/opt/t/m/{name}", good)
    _directories(replay)
    asked = ["svccfg", "validate", FMRI]
    known = [index for index, step in enumerate(replay.record["steps"]) if step["argv"] == asked]
    for index in range(len(replay.record["steps"])):
        if index == known[1]:
            replay.here.settled("svccfg", "import", "/opt/t/m/good.xml")
        elif index == known[2]:
            replay.here.run("svccfg", "import", "/opt/t/m/tmpl-duration.xml")
            replay.here.lab.smf.settle()
        replay.step(index)
    replay.end()


def _directories(replay: Replay) -> None:
    """`dir` holds two good manifests, `dirbad` a good one and one with a wrong end tag."""
    lab = replay.here.lab
    good = lab.path("/opt/t/m/good.xml").read_text()
    for name in ("dir/a", "dir/b", "dirbad/a"):
        text = good.replace("site/memproxy", f"site/{name.replace('/', '-')}")
        lab.write(f"/opt/t/m/{name}.xml", text.encode())
    lab.write("/opt/t/m/dirbad/c.xml", lab.path("/opt/t/m/bad-xml.xml").read_bytes())


def _files_only(replay: Replay) -> None:
    """The steps import themselves."""
    replay.files()
    for index in range(len(replay.record["steps"])):
        replay.step(index)
    replay.end()


def _import_bad(replay: Replay) -> None:
    """The service that some of them make was deleted before the steps that show it absent."""
    replay.files()
    lab = replay.here.lab
    good = lab.path("/opt/t/m/good.xml").read_bytes()
    for name in ("with blank.xml", "with=equal.xml", "noextension"):
        lab.write(f"/opt/t/m/{name}", good)
    _directories(replay)
    for index, step in enumerate(replay.record["steps"]):
        if "-V" in step.get("argv", []) or step.get("sh", "").startswith("cd "):
            replay.here.run("svccfg", "delete", "-f", "svc:/site/memproxy")
        replay.step(index)
    replay.end()


def _names(replay: Replay) -> None:
    """svcadm with names."""
    replay.here.lab.write("/opt/t/m/good.xml", RECORDS["import-good"]["manifest"].encode())
    replay.here.settled("svccfg", "import", "/opt/t/m/good.xml")
    _all_steps(replay)


def _all_steps(replay: Replay) -> None:
    for index in range(len(replay.record["steps"])):
        replay.step(index)
    replay.end()


def _properties(replay: Replay) -> None:
    """Of an online instance, at last of one that is disabled temporarily."""
    replay.set_up()
    replay.here.settled("svcadm", "enable", FMRI)
    asked = ["svcprop", "-p", "general_ovr/enabled", FMRI]
    last = [index for index, step in enumerate(replay.record["steps"]) if step["argv"] == asked][-1]
    for index in range(len(replay.record["steps"])):
        if index == last:
            replay.here.settled("svcadm", "disable", "-t", FMRI)
        replay.step(index)
    replay.end()


def _preload(replay: Replay) -> None:
    """The configuration is broken by the second step, or has been; commands have LD_NOCONFIG where nothing is noted."""
    here = replay.here
    here.environment["LD_NOCONFIG"] = "yes"
    here.mode("env")
    replay.set_up()
    if replay.name == "preload-broken":
        here.settled("svcadm", "enable", FMRI)
        here.new_log()
    else:
        assert here.run(*BREAK).status == 0
    for index, step in enumerate(replay.record["steps"]):
        replay.step(index, environment={"LD_NOCONFIG": ""} if "env_note" in step else None)
    replay.end()


def _start(replay: Replay) -> None:
    """A start method that does something; it is repaired before the last step."""
    here = replay.here
    mode = replay.record["note"].partition(": ")[2].rpartition(", manifest")[0]
    here.mode(mode)
    replay.set_up()
    logs = {2: "log_after_enable", 4: "log_after_clear", 5: "log_after_repair_and_clear"}
    for index in range(len(replay.record["steps"])):
        if index == 5:
            here.mode("exit 0")
        replay.step(index)
        if index in logs:
            replay.compare(logs[index], replay.record[logs[index]], here.new_log())
    replay.end()


def _enabled_by_a_step(replay: Replay) -> None:
    """The first step enables the instance."""
    mode = "env" if replay.name.startswith("context-") else "args" if replay.name == "exec-prop" else "exit 0"
    replay.here.mode(mode)
    replay.set_up()
    _all_steps(replay)


def _stop(replay: Replay) -> None:
    """State and log were taken before the last three steps."""
    replay.set_up()
    for index in range(len(replay.record["steps"])):
        replay.step(index)
        if index == 6:
            replay.end()


def _refresh(replay: Replay) -> None:
    replay.set_up()
    replay.here.settled("svcadm", "enable", FMRI)
    replay.here.mode(f"always exit {replay.name.rpartition('-')[2]}")
    _all_steps(replay)


def _often(replay: Replay) -> None:
    replay.set_up()
    replay.here.settled("svcadm", "enable", FMRI)
    for _ in range(12):
        replay.here.settled("svcadm", "restart", FMRI)
    _all_steps(replay)


def _bring(replay: Replay, state: str) -> None:
    """The instance into the state that a record's name ends with."""
    here = replay.here
    if state == "maintenance":
        here.mode("exit 96")
    replay.set_up()
    if state != "disabled":
        here.settled("svcadm", "enable", *(["-t"] if state == "online-temporary" else []), FMRI)
    if state == "degraded-marked":
        here.settled("svcadm", "mark", "degraded", FMRI)


def _query(replay: Replay) -> None:
    here = replay.here
    text = RECORDS["query-disabled"]["manifest"].replace("site/memproxy", "site/user-of-memproxy")
    text = text.replace("svc:/system/filesystem/local:default", FMRI)
    here.lab.write("/opt/t/m/user.xml", text.encode())
    here.settled("svccfg", "import", "/opt/t/m/user.xml")
    _bring(replay, replay.name.partition("-")[2])
    _all_steps(replay)


def _starting(replay: Replay) -> None:
    """Nothing was waited for between the steps: the start method runs."""
    replay.here.mode("sleep 8")
    replay.set_up()
    assert replay.here.run("svcadm", "enable", FMRI).status == 0
    replay.here.lab.smf.begin()
    for index in range(len(replay.record["steps"])):
        replay.step(index, settle=False)
    replay.here.lab.smf.settle()
    replay.end()


def _svcadm(replay: Replay) -> None:
    states = ("disabled", "online", "offline-absent", "offline-disabled", "maintenance")
    if len(replay.record["steps"]) == 1:
        replay.set_up()
    else:
        _bring(replay, next(state for state in states if replay.name.endswith(f"-{state}")))
        replay.here.new_log()
        replay.here.calls.clear()
    _all_steps(replay)


def _set_up(name: str) -> Callable[[Replay], None]:
    special = {
        "validate": _validate,
        "import-bad": _import_bad,
        "svcadm-names": _names,
        "svcprop": _properties,
        "restart-often": _often,
        "query-starting": _starting,
    }
    if name in special:
        return special[name]
    for prefix, how in (
        *(("import-", _files_only), ("inventory", _files_only), ("preload-", _preload)),
        *(("start-contract", _enabled_by_a_step), ("start-", _start), ("stop-", _stop), ("refresh-", _refresh)),
        *(("context-", _enabled_by_a_step), ("exec-", _enabled_by_a_step), ("query-", _query), ("svcadm-", _svcadm)),
    ):
        if name.startswith(prefix):
            return how
    raise NotImplementedError(name)


@pytest.mark.parametrize("name", [name for name in RECORDS if name not in CHAIN])
def test_a_record(name: str, here: Machine) -> None:
    """Each step says what was recorded, and the end is the recorded one."""
    replay = Replay(RECORDS[name], here, UNMODELLED)
    _set_up(name)(replay)
    assert replay.steps == len(RECORDS[name]["steps"])
    assert not replay.differences, "\n".join(replay.differences)
    assert replay.skipped == {key for key in UNMODELLED if key[0] == name}


def test_a_story_of_manifests_profiles_and_reboots(here: Machine) -> None:
    """The records of the import at boot, in their order, on one machine."""
    for name in CHAIN:
        replay = Replay(RECORDS[name], here, UNMODELLED)
        replay.files()
        _chapter(replay)
        assert replay.steps == len(RECORDS[name]["steps"])
        assert not replay.differences, f"{name}: " + "\n".join(replay.differences)
        assert replay.skipped == {key for key in UNMODELLED if key[0] == name}


IMPORT = "svc:/system/manifest-import:default"
CHANGES = ("cp", "rm", "touch", "svccfg delete", "svccfg delhash")
"""Behind these steps manifest-import was restarted."""


def _chapter(replay: Replay) -> None:
    here, name = replay.here, replay.name
    if name == "import-early":
        for place, manifest in (
            ("/lib/svc/manifest/site/memproxy.xml", "good"),
            ("/lib/svc/manifest/site/keep.xml", "keep"),
            ("/etc/svc/profile/site/memproxy.xml", "profile"),
            ("/var/svc/manifest/site/varsite.xml", "varsite"),
        ):
            here.lab.write(place, here.lab.path(f"/opt/t/m/{manifest}.xml").read_bytes())
        here.lab.path(IMPORT_LOG).unlink()
        here.lab.boot()
    elif name == "import-restart-again":
        here.settled("svcadm", "restart", IMPORT)
    elif name == "import-by-hand-standard-place":
        here.lab.path("/lib/svc/manifest/site/bad.xml").unlink()  # no later log of the machine speaks of it
    elif name == "profile-apply":
        # The log that the last record shows begins with such a run.
        here.lab.path(IMPORT_LOG).write_text("")
        here.settled("svcadm", "restart", IMPORT)
    elif name in ("after-reboot", "after-removal-reboot"):
        here.lab.boot()
    if name == "import-restart-new":
        here.new_log(IMPORT_LOG)
    for index, step in enumerate(replay.record["steps"]):
        replay.step(index)
        line = step.get("sh") or " ".join(step["argv"])
        if line.startswith(CHANGES) and "restart" in name:
            here.settled("svcadm", "restart", IMPORT)
    replay.end(LOG if name == "import-early" else IMPORT_LOG)
