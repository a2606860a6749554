"""smf.py against recordings of the real commands (tests/data/smf/smf.json): each way in which they lie is a case.

The recordings are of illumos of January 2021. What they do not have (a repository that is gone, a user without rights,
an older svcadm) is answered in the words of the programs' sources, and named so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from memproxy_sol import smf
from memproxy_sol.commands import ENVIRONMENT, SECONDS, Ran, Shell
from memproxy_sol.errors import CommandError, SmfError
from memproxy_sol.root import Root
from memproxy_sol.smf import MANIFEST_IMPORT, RUNNING, STOPPED, Smf, State

FMRI = "svc:/site/memproxy:default"
SERVICE = "svc:/site/memproxy"
RECORDS = {
    record["name"]: record
    for record in json.loads((Path(__file__).parent.parent / "data" / "smf" / "smf.json").read_text())
}
ASKED = ("svcprop", "-p", "restarter", FMRI)


def recorded(name: str, *argv: str, nth: int = 0) -> Ran:
    """The `nth` run of exactly this command in the record `name`."""
    found = [step for step in RECORDS[name]["steps"] if step.get("argv") == list(argv)]
    step = found[nth]
    return Ran(argv, step["exit"], step["stdout"], step["stderr"])


def restarter(state: str, next_state: str = "none", auxiliary: str = "none", stamp: str = "1.0") -> Ran:
    """The recorded restarter group of an online instance with other values in it."""
    words = recorded("query-online", *ASKED).out.splitlines()
    values = {"state": state, "next_state": next_state, "auxiliary_state": auxiliary, "state_timestamp": stamp}
    lines = []
    for line in words:
        name, kind, *value = line.split(" ")
        short = name.partition("/")[2]
        lines.append(" ".join((name, kind, *([values[short]] if short in values else value))))
    return Ran(ASKED, 0, "\n".join(lines) + "\n", "")


class Replay(Shell):
    """Answers each command with what it was given for it, in turn, the last one for ever; notes what was asked."""

    def __init__(self, *answers: Ran, missing: bool = False) -> None:
        self.answers: dict[tuple[str, ...], list[Ran]] = {}
        for ran in answers:
            self.answers.setdefault(tuple(ran.command), []).append(ran)
        self.missing = missing
        self.asked: list[tuple[str, ...]] = []

    def run(
        self, command: Sequence[str], *, seconds: float = SECONDS, environment: Mapping[str, str] = ENVIRONMENT
    ) -> Ran:
        assert environment is ENVIRONMENT, "SVCCFG_ variables, LC_ALL and LD_NOCONFIG are this room's to decide"
        if self.missing:
            raise CommandError("is not on this system", where=command[0])
        name = (os.path.basename(command[0]), *command[1:])
        self.asked.append(name)
        queue = self.answers[name]
        return queue.pop(0) if len(queue) > 1 else queue[0]

    def has(self, program: str) -> bool:
        return not self.missing


class Clock:
    """A clock that only its sleep moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def smf_of(*answers: Ran, root: Root | None = None, missing: bool = False) -> tuple[Smf, Replay, Clock]:
    shell, clock = Replay(*answers, missing=missing), Clock()
    return Smf(shell, root, clock, clock.sleep), shell, clock


def silent(*argv: str) -> Ran:
    return Ran(argv, 0, "", "")


ENABLED = ("svcprop", "-c", "-p", "general/enabled", FMRI)
TEMPORARY = ("svcprop", "-p", "general_ovr/enabled", FMRI)
NO_TEMPORARY = recorded("svcprop", *TEMPORARY, nth=0)
GONE = Ran(ASKED, 1, "", f"svcprop: Pattern '{FMRI}' doesn't match any entities\n")
"""The recorded text, with this command's name in it."""


@pytest.fixture
def tree(tmp_path: Path) -> Root:
    """A root with the recorded manifests where the recordings had them."""
    directory = tmp_path / "opt/t/m"
    (directory / "dir").mkdir(parents=True)
    texts = {**RECORDS["validate"]["manifests"], **RECORDS["import-bad"]["manifests"]}
    for name, text in texts.items():
        (directory / f"{name}.xml").write_text(text)
    for name in ("with blank.xml", "with=equal.xml", "changed-new.xml"):
        (directory / name).write_text(texts["good"])
    return Root(str(tmp_path))


# The state.


def test_the_state_of_an_online_instance() -> None:
    smf_, shell, _ = smf_of(recorded("query-online", *ASKED), recorded("svcprop", *ENABLED), NO_TEMPORARY)
    assert smf_.state(FMRI) == State(
        "online", "none", "dependencies_satisfied", "<TIME>", True, "/var/svc/log/site-memproxy:default.log"
    )
    # Several -p are answered last first: one is asked at a time.
    assert all(command.count("-p") == 1 for command in shell.asked)


def test_an_instance_that_never_ran_has_no_log() -> None:
    off = Ran(ENABLED, 0, "false\n", "")
    smf_, _, _ = smf_of(recorded("query-disabled", *ASKED), off, NO_TEMPORARY)
    assert smf_.state(FMRI) == State("disabled", "none", "per_configuration", "<TIME>", False, None)


def test_enabled_is_asked_of_the_present_configuration_not_of_the_snapshot() -> None:
    without_c = recorded("svcprop", "svcprop", "-p", "general/enabled", FMRI)
    assert without_c.out == "false\n"
    smf_, shell, _ = smf_of(recorded("query-online", *ASKED), recorded("svcprop", *ENABLED), NO_TEMPORARY, without_c)
    found = smf_.state(FMRI)
    assert found is not None
    assert found.enabled
    assert without_c.command not in shell.asked


def test_the_temporary_setting_outranks_the_permanent_one() -> None:
    smf_, _, _ = smf_of(
        recorded("query-online", *ASKED), recorded("svcprop", *ENABLED), recorded("svcprop", *TEMPORARY, nth=1)
    )
    found = smf_.state(FMRI)
    assert found is not None
    assert not found.enabled


def test_no_instance_is_no_state() -> None:
    real = recorded("svcprop", "svcprop", "-p", "config/program", "svc:/site/no-such:default")
    assert "doesn't match any entities" in real.err
    smf_, _, _ = smf_of(GONE)
    assert smf_.state(FMRI) is None


def test_an_instance_that_the_restarter_has_not_taken_over_is_uninitialized() -> None:
    real = recorded("svcprop", "svcprop", "-p", "restarter", SERVICE)
    smf_, _, _ = smf_of(Ran(ASKED, real.status, real.out, real.err), Ran(ENABLED, 0, "false\n", ""), NO_TEMPORARY)
    found = smf_.state(FMRI)
    assert found is not None
    assert str(found) == "uninitialized"


@pytest.mark.parametrize(
    "name", ["memproxy", "site/memproxy", SERVICE, "svc:/site/memproxy:", "svc:/site/*:default", "lrc:/etc/x", "a b"]
)
def test_only_full_names_of_instances_are_passed(name: str) -> None:
    smf_, shell, _ = smf_of()
    for ask in (smf_.state, smf_.enable, smf_.disable, smf_.refresh, smf_.clear, smf_.restart):
        with pytest.raises(SmfError, match="is not the full name of an instance; name it svc:/"):
            ask(name)
    assert shell.asked == []


def test_the_short_name_is_offered_only_while_it_means_one_instance() -> None:
    ambiguous = Ran(("svcs", "-H", "-o", "fmri", "memproxy"), 0, f"svc:/application/cache:memproxy\n{FMRI}\n", "")
    assert smf_of(ambiguous)[0].short_name(FMRI) == FMRI
    assert smf_of(Ran(ambiguous.command, 0, f"{FMRI}\n", ""))[0].short_name(FMRI) == "memproxy"
    # Somebody has a service svc:/memproxy, which the short name then means exactly.
    assert smf_of(Ran(ambiguous.command, 0, "svc:/memproxy:default\n", ""))[0].short_name(FMRI) == FMRI


# Requests.

VERBS = ("enable", "disable", "refresh", "clear")


@pytest.mark.parametrize("verb", VERBS)
def test_a_request_is_one_silent_command_with_the_full_name(verb: str) -> None:
    smf_, shell, _ = smf_of(silent("svcadm", verb, FMRI))
    getattr(smf_, verb)(FMRI)
    assert shell.asked == [("svcadm", verb, FMRI)]


@pytest.mark.parametrize("verb", VERBS)
def test_words_on_stderr_are_a_failure_whatever_the_status_says(verb: str) -> None:
    # Sources of 2013: restart, refresh and clear without rights.
    words = f"svcadm: {FMRI}: Permission denied.\n"
    for status in (0, 1):
        smf_, _, _ = smf_of(Ran(("svcadm", verb, FMRI), status, "", words))
        with pytest.raises(SmfError, match=r"svcadm \w+ svc:.*Permission denied.*; memproxy-sol is run as root"):
            getattr(smf_, verb)(FMRI)


def test_a_clear_outside_of_maintenance_is_an_error() -> None:
    smf_, _, _ = smf_of(recorded("start-exit-0", "svcadm", "clear", FMRI))
    with pytest.raises(SmfError, match="not in a maintenance or degraded state"):
        smf_.clear(FMRI)


@pytest.mark.parametrize(
    ("record", "mend"),
    [("query-maintenance", "clear"), ("query-disabled", "enable"), ("query-offline-absent", "enable")],
)
def test_a_restart_that_would_silently_do_nothing_is_an_error(record: str, mend: str) -> None:
    smf_, shell, _ = smf_of(recorded(record, *ASKED), Ran(ENABLED, 0, "true\n", ""), NO_TEMPORARY)
    with pytest.raises(SmfError, match=f"would do nothing; svcadm {mend} {FMRI}"):
        smf_.restart(FMRI)
    assert not any(command[0] == "svcadm" for command in shell.asked)


def test_the_command_that_the_runtime_linker_kills_says_so() -> None:
    killed = recorded("preload-broken", "svcprop", "-p", "restarter/state", FMRI)
    smf_, _, _ = smf_of(Ran(ASKED, killed.status, killed.out, killed.err))
    with pytest.raises(SmfError, match=r"ended by signal 9: ld.so.1: svcprop: fatal: /missing.so: open failed"):
        smf_.state(FMRI)


def test_a_missing_command_is_one_clear_message() -> None:
    smf_, _, _ = smf_of(missing=True)
    with pytest.raises(SmfError, match=r"/usr/bin/svcprop: is not on this system; SMF is part of Solaris.*service = f"):
        smf_.state(FMRI)


UNREACHABLE = {
    # The words of the programs' sources.
    ASKED: "svcprop: Could not connect to configuration repository: repository server unavailable.\n",
    ("svcadm", "enable", FMRI): "svcadm: Couldn't bind to configuration repository: repository server unavailable.\n",
    ("svccfg", "delete", SERVICE): "svccfg: Could not connect to repository server: repository server unavailable.\n",
}


def test_a_repository_that_cannot_be_reached_is_not_taken_for_a_missing_instance() -> None:
    smf_, _, _ = smf_of(*(Ran(command, 1, "", words) for command, words in UNREACHABLE.items()))
    for ask in (lambda: smf_.state(FMRI), lambda: smf_.enable(FMRI), lambda: smf_.delete(SERVICE)):
        with pytest.raises(SmfError, match=r"repository server unavailable.*svc.configd does not answer"):
            ask()


# Waiting.


def test_waiting_goes_on_until_the_request_has_come_true() -> None:
    smf_, shell, clock = smf_of(
        restarter("disabled", stamp="1.0"),
        restarter("offline", "online", stamp="2.0"),
        restarter("offline", "online", stamp="2.0"),
        restarter("online", auxiliary="dependencies_satisfied", stamp="3.0"),
    )
    assert smf_.wait(FMRI, RUNNING, 60).stamp == "3.0"
    assert len(shell.asked) == 4
    assert clock.slept == sorted(clock.slept)


def test_waiting_ends_at_its_limit_and_says_where_the_instance_is() -> None:
    smf_, _, clock = smf_of(restarter("offline", auxiliary="enable_request"))
    with pytest.raises(SmfError, match=rf"is still offline \(enable_request\) after 60 seconds, .*; svcs -xv {FMRI}"):
        smf_.wait(FMRI, RUNNING, 60)
    assert clock.now == 60


def test_a_state_in_transition_is_no_answer() -> None:
    smf_, _, _ = smf_of(restarter("online", "offline", stamp="1.0"), restarter("online", stamp="2.0"))
    assert smf_.wait(FMRI, RUNNING, 60).stamp == "2.0"


def test_maintenance_is_reported_with_the_last_words_of_the_method(tmp_path: Path) -> None:
    log = tmp_path / "var/svc/log/site-memproxy:default.log"
    log.parent.mkdir(parents=True)
    log.write_text(RECORDS["start-stderr-96"]["log_after_enable"])
    smf_, _, _ = smf_of(recorded("query-maintenance", *ASKED), root=Root(str(tmp_path)))
    with pytest.raises(SmfError, match=r"is in maintenance \(method_failed\): a line on stderr; svcs -xv svc:"):
        smf_.wait(FMRI, RUNNING, 60)
    # The restarter's own lines of this run are there, those of former runs are not.
    assert smf_.log_tail(FMRI)[0] == "method called with: start"
    log.write_text(
        '[ x Executing start method ("/opt/t/method start"). ]\n[ x Method "start" failed due to signal KILL. ]\n'
    )
    with pytest.raises(SmfError, match=r"\(method_failed\): \[ x Method \"start\" failed due to signal KILL. \]"):
        smf_.wait(FMRI, RUNNING, 60)
    log.unlink()
    with pytest.raises(SmfError, match=r"is in maintenance \(method_failed\); svcs"):
        smf_.wait(FMRI, RUNNING, 60)


def test_an_instance_that_vanishes_is_not_waited_for() -> None:
    smf_, _, _ = smf_of(restarter("offline"), GONE)
    with pytest.raises(SmfError, match="is not in the repository"):
        smf_.wait(FMRI, RUNNING, 60)


def test_enabling_out_of_maintenance_clears_and_does_not_take_the_old_state_for_the_answer() -> None:
    smf_, shell, _ = smf_of(
        restarter("maintenance", auxiliary="method_failed", stamp="1.0"),
        restarter("maintenance", auxiliary="method_failed", stamp="1.0"),
        restarter("online", auxiliary="clear_request", stamp="2.0"),
        Ran(ENABLED, 0, "true\n", ""),
        NO_TEMPORARY,
        silent("svcadm", "enable", FMRI),
        silent("svcadm", "clear", FMRI),
    )
    assert smf_.bring_up(FMRI).state == "online"
    assert [command[1] for command in shell.asked if command[0] == "svcadm"] == ["enable", "clear"]


def test_disabling_out_of_maintenance_waits_for_disabled() -> None:
    smf_, _, _ = smf_of(
        restarter("maintenance", auxiliary="method_failed", stamp="1.0"),
        restarter("maintenance", auxiliary="method_failed", stamp="1.0"),
        restarter("disabled", auxiliary="disable_request", stamp="2.0"),
        Ran(ENABLED, 0, "true\n", ""),
        NO_TEMPORARY,
        silent("svcadm", "disable", FMRI),
    )
    smf_.bring_down(FMRI)


def test_a_stop_that_fails_is_reported() -> None:
    smf_, _, _ = smf_of(
        restarter("online", stamp="1.0"),
        restarter("maintenance", auxiliary="fault_threshold_reached", stamp="2.0"),
        Ran(ENABLED, 0, "true\n", ""),
        NO_TEMPORARY,
        silent("svcadm", "disable", FMRI),
    )
    with pytest.raises(SmfError, match="is in maintenance"):
        smf_.bring_down(FMRI)


def test_disabling_what_is_not_there_is_done_already() -> None:
    smf_, shell, _ = smf_of(GONE)
    smf_.bring_down(FMRI)
    assert shell.asked == [ASKED]


@pytest.mark.parametrize(("state", "verb"), [("online", "refresh"), ("degraded", "refresh"), ("maintenance", "clear")])
def test_looking_again_is_a_refresh_of_what_runs_and_a_clear_of_what_does_not(state: str, verb: str) -> None:
    smf_, shell, _ = smf_of(
        restarter(state, stamp="1.0"),
        restarter(state, stamp="1.0"),
        restarter("online", "online", stamp="2.0"),
        restarter("online", stamp="3.0"),
        Ran(ENABLED, 0, "true\n", ""),
        NO_TEMPORARY,
        silent("svcadm", verb, FMRI),
    )
    assert smf_.look_again(FMRI).stamp == "3.0"
    assert ("svcadm", verb, FMRI) in shell.asked


def test_looking_again_reports_a_check_that_fails() -> None:
    smf_, _, _ = smf_of(
        restarter("online", stamp="1.0"),
        restarter("maintenance", auxiliary="method_failed", stamp="2.0"),
        Ran(ENABLED, 0, "true\n", ""),
        NO_TEMPORARY,
        silent("svcadm", "refresh", FMRI),
    )
    with pytest.raises(SmfError, match=r"is in maintenance \(method_failed\)"):
        smf_.look_again(FMRI)


def test_looking_again_at_what_is_switched_off_says_how_to_switch_it_on() -> None:
    smf_, _, _ = smf_of(restarter("disabled"), Ran(ENABLED, 0, "false\n", ""), NO_TEMPORARY)
    with pytest.raises(SmfError, match=f"is disabled; svcadm enable {FMRI}"):
        smf_.look_again(FMRI)


# The repository.


def test_every_recorded_verdict_of_validate_on_a_file_is_passed_on(tree: Root) -> None:
    seen = set()
    for step in RECORDS["validate"]["steps"]:
        argv = step["argv"]
        path = argv[-1]
        if len(argv) != 3 or not path.startswith("/opt/t/m/") or not tree.exists(path) or path.endswith("/dir"):
            continue
        smf_, _, _ = smf_of(Ran(tuple(argv), step["exit"], step["stdout"], step["stderr"]), root=tree)
        seen.add(step["exit"])
        if step["exit"] == 0:
            smf_.validate(path)
            continue
        with pytest.raises(SmfError):
            smf_.validate(path)
    assert seen == {0, 1}


def test_words_of_validate_with_status_0_are_a_failure(tree: Root) -> None:
    violation = [s for s in RECORDS["validate"]["steps"] if s["argv"][-1] == FMRI][-1]
    assert violation["exit"] == 0
    command = ("svccfg", "validate", "/opt/t/m/good.xml")
    smf_, _, _ = smf_of(Ran(command, 0, "", violation["stderr"]), root=tree)
    with pytest.raises(SmfError, match="Property has illegal value"):
        smf_.validate("/opt/t/m/good.xml")


def test_every_recorded_import_of_one_file_is_judged(tree: Root) -> None:
    verdicts = {}
    for step in RECORDS["import-bad"]["steps"]:
        argv = step.get("argv", [])
        if argv[:2] != ["svccfg", "import"] or len(argv) != 3 or not tree.exists(argv[2]):
            continue
        smf_, _, _ = smf_of(Ran(tuple(argv), step["exit"], step["stdout"], step["stderr"]), root=tree)
        try:
            smf_.import_(argv[2])
            verdicts[os.path.basename(argv[2])] = "taken"
        except SmfError:
            verdicts[os.path.basename(argv[2])] = "refused"
    # Status 0 with a warning about a violated template is a failure, too; a directory is not imported at all.
    assert verdicts["tmpl-duration.xml"] == verdicts["tmpl-nostart.xml"] == verdicts["dir"] == "refused"
    assert "taken" not in verdicts.values()
    smf_, _, _ = smf_of(recorded("import-good", "svccfg", "import", "/opt/t/m/good.xml"), root=tree)
    assert smf_.import_("/opt/t/m/good.xml") == ()


def test_a_property_that_the_administrator_changed_and_kept_is_a_remark(tree: Root) -> None:
    smf_, _, _ = smf_of(recorded("import-changed", "svccfg", "import", "/opt/t/m/changed-new.xml"), root=tree)
    (remark,) = smf_.import_("/opt/t/m/changed-new.xml")
    assert "Conflict upgrading svc:/site/memproxy" in remark


@pytest.mark.parametrize(
    "path",
    [
        "/opt/t/m/with blank.xml",
        "/opt/t/m/with=equal.xml",
        "/opt/a>b.xml",
        "/opt/a(b.xml",
        "/opt/a)b.xml",
        '/opt/a"b.xml',
        "/opt/a\tb.xml",
        "/opt/a\nb.xml",
        "/opt/a\\b.xml",
        "relative.xml",
        "#comment.xml",
        "/opt/" + "x" * 2040 + ".xml",
    ],
)
def test_a_path_that_would_not_arrive_as_one_word_is_refused_before(path: str, tree: Root) -> None:
    smf_, shell, _ = smf_of(root=tree)
    for ask in (smf_.validate, smf_.import_, smf_.forget_file):
        with pytest.raises(SmfError, match=r"svccfg|plain absolute path"):
            ask(path)
    assert shell.asked == []


def test_a_file_that_is_not_there_is_not_taken_for_a_name(tree: Root) -> None:
    real = recorded("validate", "svccfg", "validate", "/opt/t/m/no-such-file.xml")
    assert "doesn't match any instances" in real.err
    smf_, shell, _ = smf_of(root=tree)
    for path in ("/opt/t/m/no-such-file.xml", "/opt/t/m/dir"):
        with pytest.raises(SmfError, match="is not a file"):
            smf_.validate(path)
    assert shell.asked == []


def test_deleting_what_runs_fails_and_what_is_gone_is_done() -> None:
    command = ("svccfg", "delete", SERVICE)
    words = f"svccfg: Instance {FMRI} may be running.  Use delete -f if it is not.\n"
    with pytest.raises(SmfError, match="may be running"):
        smf_of(Ran(command, 1, "", words))[0].delete(SERVICE)
    gone = "svccfg: Pattern 'svc:/site/memproxy' doesn't match any instances or services\n"
    smf_of(Ran(command, 1, "", gone))[0].delete(SERVICE)
    smf_of(silent(*command))[0].delete(SERVICE)
    for name in (FMRI, "memproxy", "site/memproxy"):
        with pytest.raises(SmfError, match="is not the full name of a service"):
            smf_of()[0].delete(name)


def test_forgetting_a_file_of_which_nothing_is_known_is_fine(tree: Root) -> None:
    unknown = 'svccfg: No such property group "opt_t_m_good_xml".\n'
    path = "/opt/t/m/good.xml"
    smf_, shell, _ = smf_of(
        Ran(("svccfg", "delhash", path), 1, "", unknown), silent("svccfg", "delhash", "-d", "/opt/gone.xml"), root=tree
    )
    smf_.forget_file(path)
    smf_.forget_file("/opt/gone.xml")
    assert shell.asked == [("svccfg", "delhash", path), ("svccfg", "delhash", "-d", "/opt/gone.xml")]


IMPORT_ASKED = ("svcprop", "-p", "restarter", MANIFEST_IMPORT)


def importing(*states: Ran) -> tuple[Smf, Replay, Clock]:
    enabled = Ran(("svcprop", "-c", "-p", "general/enabled", MANIFEST_IMPORT), 0, "true\n", "")
    temporary = Ran(("svcprop", "-p", "general_ovr/enabled", MANIFEST_IMPORT), 1, "", NO_TEMPORARY.err)
    told = (Ran(IMPORT_ASKED, ran.status, ran.out, ran.err) for ran in states)
    return smf_of(*told, enabled, temporary, silent("svcadm", "restart", MANIFEST_IMPORT))


def test_a_restart_of_manifest_import_has_ended_when_it_is_online_with_a_new_time_stamp() -> None:
    smf_, shell, _ = importing(
        *(restarter("online", stamp="1.0") for _ in range(5)),  # before, and the request is not taken up yet
        restarter("online", "offline", stamp="2.0"),
        restarter("offline", "online", stamp="3.0"),
        restarter("online", stamp="4.0"),
    )
    smf_.restart_import()
    assert shell.asked.count(IMPORT_ASKED) == 8


def test_a_run_of_manifest_import_that_is_under_way_is_not_taken_for_ours() -> None:
    smf_, shell, _ = importing(
        restarter("offline", "online", stamp="1.0"),
        *(restarter("online", stamp="2.0") for _ in range(4)),
        restarter("online", stamp="5.0"),
    )
    smf_.restart_import()
    (place,) = (i for i, command in enumerate(shell.asked) if command[0] == "svcadm")
    assert shell.asked[:place].count(IMPORT_ASKED) == 4, "one that was waited for, before, and as a restart checks"


def test_manifest_import_in_maintenance_is_reported() -> None:
    smf_, _, _ = importing(restarter("maintenance", auxiliary="method_failed"))
    with pytest.raises(SmfError, match=f"{MANIFEST_IMPORT}: is in maintenance"):
        smf_.restart_import()


def test_variables_of_svccfg_in_our_environment_reach_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SVCCFG_REPOSITORY", "SVCCFG_CHECKHASH", "SVCCFG_DTD", "PKG_INSTALL_ROOT", "LD_PRELOAD_64"):
        monkeypatch.setenv(name, "/nowhere")
    ran = Shell().run(("/usr/bin/env",))
    assert dict(line.split("=", 1) for line in ran.out.splitlines() if not line.startswith("_=")) == ENVIRONMENT


def test_the_names_of_the_states() -> None:
    assert smf.service_of(FMRI) == SERVICE
    assert STOPPED == ("disabled",)
    assert str(State("online", "offline", "restart_request", "", True, None)) == (
        "online, going to offline (restart_request)"
    )
