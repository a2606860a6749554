"""The laboratory's SMF where no recording shows it: what the reference states, and the virtual clock."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.host.laboratory import Laboratory, Program, Result
from tests.host.laboratory.smf import NeverReturns
from tests.host.laboratory.smf_boot import manifest

FMRI = "svc:/site/memproxy:default"
FILE = "/lib/svc/manifest/site/memproxy.xml"


class Host:
    """A laboratory with the service site/memproxy, whose method ends with `status`."""

    def __init__(self, top: Path, release: str = "illumos") -> None:
        self.lab = Laboratory(top, release)
        self.status = 0
        self.runs = 0
        self.seen: Mapping[str, str] = {}
        self.lab.install_program("/opt/check", Program(64, self._check))

    def _check(self, lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
        self.runs += 1
        self.seen = env
        return Result(self.status, " ".join(argv).encode() + b"\n")

    def run(self, *argv: str, uid: int = 0, stdin: bytes = b"") -> tuple[int, str, str]:
        """Status, stdout and stderr of a command."""
        directory = "/usr/bin/" if argv[0] in ("svcs", "svcprop") else "/usr/sbin/"
        result = self.lab.execute([directory + argv[0], *argv[1:]], {}, uid, stdin)
        return result.status, result.out.decode(), result.err.decode()

    def fine(self, *argv: str) -> str:
        """Standard output of a command that has nothing to complain about; then a wait until all is settled."""
        status, out, err = self.run(*argv)
        assert (status, err) == (0, ""), argv
        self.lab.smf.settle()
        return out

    def put(
        self, name: str = "site/memproxy", path: str = "/opt/m.xml", text: str | None = None, **options: object
    ) -> None:
        """Write a manifest and import it."""
        requires = options.pop("requires", ("system/filesystem/local:default",))
        text = text or manifest(name, requires, "/opt/check %m", **options)  # type: ignore[arg-type]
        self.lab.write(path, text.encode())
        self.fine("svccfg", "import", path)

    def state(self, fmri: str = FMRI) -> str | None:
        return self.lab.smf.state(fmri)

    def log(self, name: str = "site-memproxy:default") -> str:
        return (self.lab.top / f"var/svc/log/{name}.log").read_text()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "top")


@pytest.mark.parametrize("polls", [0, 1, 2, 3])
def test_the_number_of_polls_that_see_an_unfinished_state(host: Host, polls: int) -> None:
    """The first sees the old state, the others a method under way."""
    host.put()
    host.lab.smf.polls_until_settled = polls
    assert host.run("svcadm", "enable", FMRI) == (0, "", "")
    seen = [host.run("svcs", "-H", "-o", "state", FMRI)[1].strip() for _ in range(polls + 2)]
    assert seen == [*["disabled", "offline*", "offline*"][:polls], "online", "online"]


def test_a_new_instance_has_no_state_at_first(host: Host) -> None:
    """svc.startd has not taken it over yet."""
    host.lab.write("/opt/m.xml", manifest("site/new", (), ":true").encode())
    assert host.run("svccfg", "import", "/opt/m.xml") == (0, "", "")
    status, _, err = host.run("svcprop", "-p", "restarter/state", "site/new:default")
    assert (status, err) == (
        1,
        "svcprop: Couldn't find property group `restarter' for instance `svc:/site/new:default'.\n",
    )
    assert host.run("svcs", "-H", "-o", "state,nstate", "site/new")[1] == "disabled       -\n"


def test_names(host: Host) -> None:
    """Ambiguous short names: svcadm and svccfg refuse, svcs and svcprop list; a name within a name is not found."""
    host.put()
    for name in ("application/memproxy", "memproxy/memproxy"):
        host.put(name)
    text = manifest("application/cache", (), ":true").replace("<create_default_instance", '<instance name="memproxy"')
    text = text.replace('    <instance name="memproxy" enabled="false"/>\n', "")
    text = text.replace("    <stability", '    <instance name="memproxy" enabled="false"/>\n    <stability')
    host.put("application/cache", text=text)
    three = (FMRI, "svc:/application/memproxy:default", "svc:/application/cache:memproxy")
    listed = "".join(f"\n\t{fmri}" for fmri in three)
    for verb in ("enable", "disable", "restart", "refresh", "clear"):
        status, out, err = host.run("svcadm", verb, "memproxy")
        assert (status, out, err) == (1, "", f"svcadm: Partial FMRI 'memproxy' matches multiple instances:{listed}\n")
    assert sorted(host.fine("svcs", "-H", "-o", "fmri", "memproxy").split()) == sorted(three)
    lines = host.fine("svcprop", "-p", "startd/duration", "memproxy").splitlines()
    assert sorted(lines) == sorted(f"{fmri}/:properties/startd/duration astring transient" for fmri in three)
    status, _, err = host.run("svccfg", "delete", "memproxy")
    assert status == 1
    assert err.startswith("svccfg: Pattern 'memproxy' matches multiple services:\n\tsvc:/site/memproxy\n")
    host.fine("svcadm", "enable", "svc:/site/*")
    assert host.state() == "online"


def test_nobody_but_root_changes_anything(host: Host) -> None:
    """And svccfg refresh says so with exit 0."""
    host.put()
    assert host.run("svcadm", "enable", FMRI, uid=100) == (1, "", f"svcadm: {FMRI}: Permission denied.\n")
    assert host.run("svccfg", "delete", FMRI, uid=100) == (1, "", "svccfg: Permission denied.\n")
    assert host.run("svccfg", "import", "/opt/m.xml", uid=100)[0] == 1
    assert host.run("svccfg", "-s", "site/memproxy", "setprop", "startd/duration", "=", "child", uid=100)[0] == 1
    refreshed = host.run("svccfg", "-s", FMRI, "refresh", uid=100)
    assert refreshed == (0, "", f"svccfg: Could not refresh {FMRI} (permission denied).\n")
    assert host.run("svcs", "-H", "-o", "state", FMRI, uid=100) == (0, "disabled\n", "")


def test_without_rights_an_old_svcadm_says_so_and_exits_0(tmp_path: Path) -> None:
    """Section 1, fact 8."""
    old = Host(tmp_path / "top", "10")
    old.put()
    for verb, status in (("restart", 0), ("refresh", 0), ("clear", 0), ("enable", 1)):
        assert old.run("svcadm", verb, FMRI, uid=100) == (status, "", f"svcadm: {FMRI}: Permission denied.\n")


def test_the_repository_is_not_reachable(host: Host) -> None:
    """Each tool's own words; a reboot mends it."""
    host.lab.smf.stop_configd()
    gone = "repository server unavailable."
    assert host.run("svcs", FMRI)[::2] == (1, f"svcs: Could not bind to repository server: {gone}  Exiting.\n")
    assert host.run("svcadm", "enable", FMRI)[::2] == (
        1,
        f"svcadm: Couldn't bind to configuration repository: {gone}\n",
    )
    assert host.run("svcprop", FMRI)[::2] == (1, f"svcprop: Could not connect to configuration repository: {gone}\n")
    assert host.run("svccfg", "list")[0] == 1
    host.lab.boot()
    assert host.state("svc:/system/filesystem/local:default") == "online"


def test_a_killed_process_loses_no_request(host: Host) -> None:
    """What a child has told svc.configd is there after its death, for everybody."""
    host.put()
    child = os.fork()
    if child == 0:
        host.run("svcadm", "enable", FMRI)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    host.lab.smf.settle()
    assert host.state() == "online"
    assert Laboratory(host.lab.top).smf.state(FMRI) == "online", "for another process, too"


def test_a_reboot_forgets_what_is_temporary(host: Host) -> None:
    """The temporary setting, requests that svc.startd had not taken, and the failures."""
    host.put()
    host.put("site/lasting", "/opt/l.xml")
    host.fine("svcadm", "enable", "-t", FMRI)
    host.fine("svcadm", "enable", "site/lasting")
    runs = host.runs
    host.lab.boot()
    assert (host.state(), host.state("svc:/site/lasting:default")) == ("disabled", "online")
    assert host.runs == runs + 1
    assert host.run("svcprop", "-p", "general_ovr/enabled", FMRI)[0] == 1


def test_a_reboot_keeps_maintenance_only_if_the_method_fails_again(host: Host) -> None:
    host.put()
    host.status = 96
    host.fine("svcadm", "enable", FMRI)
    assert host.state() == "maintenance"
    host.lab.boot()
    assert host.state() == "maintenance"
    host.status = 0
    host.lab.boot()
    assert host.state() == "online"


def test_a_broken_preload_at_boot(host: Host) -> None:
    """Methods without LD_NOCONFIG die, the import program too; with it they run."""
    text = manifest("site/memproxy", (), "/opt/check %m", enabled=True)
    context = (
        '<method_context working_directory="/"><method_environment><envvar name="LD_NOCONFIG" value="yes"/>'
        "</method_environment></method_context>\n"
    )
    host.put(text=text.replace("    <exec_method", f"    {context}    <exec_method", 1))
    host.put("site/without", "/opt/w.xml", enabled=True)
    configuration = ["/usr/bin/crle", "-64", "-c", "/var/ld/64/ld.config", "-e", "LD_PRELOAD_64=/missing.so"]
    assert host.lab.execute(configuration).status == 0
    configuration = ["/usr/bin/crle", "-c", "/var/ld/ld.config", "-e", "LD_PRELOAD_32=/missing.so"]
    assert host.lab.execute(configuration).status == 0
    host.lab.smf.boot()  # the laboratory's own boot would stop at init, which is a brick
    assert host.state() == "online"
    assert host.state("svc:/system/manifest-import:default") == "maintenance"
    assert host.state("svc:/site/without:default") == "offline", "filesystem/local waits for the import"
    assert 'Method "start" failed due to signal KILL.' in host.log("system-manifest-import:default")


def test_a_dependency_that_is_absent_lets_a_synchronous_enable_wait_for_ever(host: Host) -> None:
    host.put(requires=("system/nothing:default",))
    with pytest.raises(NeverReturns):
        host.run("svcadm", "enable", "-s", FMRI)
    assert host.state() == "offline"
    assert "Reason: Dependency svc:/system/nothing:default is absent." in host.fine("svcs", "-x", FMRI)


@pytest.mark.parametrize(
    ("grouping", "with_other_disabled", "with_other_online"),
    [
        ("require_all", "offline", "online"),
        ("require_any", "offline", "online"),
        ("optional_all", "online", "online"),
        ("exclude_all", "online", "offline"),
    ],
)
def test_groupings(host: Host, grouping: str, with_other_disabled: str, with_other_online: str) -> None:
    other = "svc:/site/other:default"
    host.put("site/other", "/opt/o.xml")
    host.put(requires=("site/other:default",), grouping=grouping)
    host.fine("svcadm", "enable", FMRI)
    assert host.state() == with_other_disabled
    host.fine("svcadm", "disable", FMRI)
    host.fine("svcadm", "enable", other)
    host.fine("svcadm", "enable", FMRI)
    assert host.state() == with_other_online


@pytest.mark.parametrize(("restart_on", "runs"), [("none", 1), ("error", 1), ("restart", 2), ("refresh", 2)])
def test_restart_on(host: Host, restart_on: str, runs: int) -> None:
    """What a restart of the other does to us."""
    host.put("site/other", "/opt/o.xml", text=manifest("site/other", (), ":true", enabled=True))
    text = manifest("site/memproxy", ("site/other:default",), "/opt/check %m", enabled=True)
    host.put(text=text.replace('restart_on="none"', f'restart_on="{restart_on}"'))
    assert (host.state(), host.runs) == ("online", 1)
    host.fine("svcadm", "restart", "svc:/site/other:default")
    assert (host.state(), host.runs) == ("online", runs)


def test_a_slow_program_is_killed_by_the_methods_timeout(host: Host) -> None:
    """A fault of the laboratory's counts by the virtual clock."""
    from tests.host.laboratory import Fault

    text = manifest("site/memproxy", (), "/opt/check %m").replace('timeout_seconds="0"', 'timeout_seconds="60"')
    host.put(text=text)
    host.lab.faults["/opt/check"] = Fault(seconds=61)
    host.fine("svcadm", "enable", FMRI)
    assert host.state() == "maintenance"
    assert host.log().count("Method or service exit timed out.  Killing contract") == 3


@pytest.mark.parametrize(("release", "state"), [("illumos", "online"), ("10", "maintenance")])
def test_exit_94(tmp_path: Path, release: str, state: str) -> None:
    """Success since 2019, a plain failure before."""
    host = Host(tmp_path / "top", release)
    host.put()
    host.status = 94
    host.fine("svcadm", "enable", FMRI)
    assert host.state() == state


def test_solaris_10_has_no_early_import_no_clean_up_and_no_svcs_l(tmp_path: Path) -> None:
    old = Host(tmp_path / "top", "10")
    place = "/var/svc/manifest/site/memproxy.xml"
    old.lab.write(FILE, manifest("site/lib", (), ":true").encode())
    old.lab.write(place, manifest("site/memproxy", (), ":true").encode())
    old.lab.boot()
    assert (old.state(), old.state("svc:/site/lib:default")) == ("disabled", None)
    old.lab.path(place).unlink()
    old.lab.boot()
    assert old.state() == "disabled"
    assert old.run("svcs", "-L", FMRI)[0] == 2
    assert not (old.lab.top / "etc/svc/volatile/system-early-manifest-import:default.log").exists()


def test_solaris_11_imports_a_file_of_the_standard_place_by_a_restart(tmp_path: Path) -> None:
    """The command has ended before anything is imported."""
    newer = Host(tmp_path / "top", "11.4")
    newer.lab.write(FILE, manifest("site/memproxy", (), ":true").encode())
    assert newer.run("svccfg", "import", FILE) == (0, "", "")
    assert newer.state() is None
    newer.lab.smf.settle()
    assert newer.state() == "disabled"


def test_an_equal_file_passes_for_unchanged_without_being_read(host: Host) -> None:
    """Section 1, fact 16; a new modification time helps."""
    text = manifest("site/memproxy", (), "/opt/check one", "first")
    path = host.lab.write(FILE, text.encode())
    host.lab.boot()
    status = path.stat()
    path.write_text(text.replace("first", "other"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    host.lab.boot()
    assert host.fine("svcprop", "-p", "tm_common_name/C", FMRI) == "first\n"
    os.utime(path, (1, 1))
    host.lab.boot()
    assert host.fine("svcprop", "-p", "tm_common_name/C", FMRI) == "other\n"


def test_delete(host: Host) -> None:
    """Online only with -f, which runs no stop method; the log stays; what it gave to its dependents goes."""
    host.put()
    host.fine("svcadm", "enable", FMRI)
    status, _, err = host.run("svccfg", "delete", "svc:/site/memproxy")
    assert (status, err) == (1, f"svccfg: Instance {FMRI} may be running.  Use delete -f if it is not.\n")
    log = host.log()
    host.fine("svccfg", "delete", "-f", "svc:/site/memproxy")
    assert (host.state(), host.log()) == (None, log)
    status, _, err = host.run("svccfg", "delete", "svc:/site/memproxy")
    words = "doesn't match any instances or services"
    assert (status, err) == (1, f"svccfg: Pattern 'svc:/site/memproxy' {words}\n")


def test_edits(host: Host) -> None:
    """-s NAME selects the service; values are lexed again; a change is seen after a refresh."""
    host.put()
    service = ["svccfg", "-s", "svc:/site/memproxy"]
    assert host.run(*service, "refresh") == (1, "", "svccfg: Instance not selected.\n")
    assert host.run(*service, "setprop", "own/a", "=", "astring:", "x")[2] == 'svccfg: No such property group "own".\n'
    host.fine(*service, "addpg", "own", "application")
    for words, message in (
        (["own/a", "=", "x"], "Type required for new properties."),
        (["own/a", "=", "count:", "x"], 'Invalid "count" value "x".'),
        (["own/a", "=", "no:", "x"], 'Unknown type "no:".'),
        (["own", "=", "astring:", "x"], "Property names must contain a `/'."),
        (
            ["own/a", "=", "astring:", "x", "y"],
            "Multiple string values or string values with spaces must be quoted with '\"'.",
        ),
        (["own/a", "astring:", "x"], "Syntax error."),
    ):
        assert host.run(*service, "setprop", *words) == (1, "", f"svccfg: {message}\n")
    host.fine(*service, "setprop", "own/a", "=", "astring:", '"a \\"b\\" $c"')
    host.fine(*service, "setprop", "own/list", "=", "astring:", '("x y" "z")')
    host.fine(*service, "addpropvalue", "own/list", "w")
    assert host.run("svcprop", "-p", "own/a", FMRI)[0] == 1, "not before a refresh"
    assert host.fine("svcprop", "-c", "-p", "own/a", FMRI) == 'a\\ \\"b\\"\\ \\$c\n'
    host.fine("svccfg", "-s", FMRI, "refresh")
    assert host.fine("svcprop", "-p", "own/list", FMRI) == "x\\ y z w\n"
    assert host.fine(*service, "listprop", "own/*").splitlines()[-1] == 'own/list  astring  "x y" "z" "w"'


def test_values_reach_the_method_escaped(host: Host) -> None:
    """Blanks and quotes of a property are protected from the shell; a list is separated as the token says."""
    text = manifest("site/memproxy", (), "/opt/check %{own/one} %{own/many,} 100%%", enabled=True)
    group = (
        '<property_group name="own" type="application"><propval name="one" type="astring" value="a b\'c;d"/>'
        '<property name="many" type="astring"><astring_list><value_node value="x"/><value_node value="y"/>'
        "</astring_list></property></property_group>"
    )
    host.put(text=text.replace('    <property_group name="startd"', f'    {group}\n    <property_group name="startd"'))
    assert host.state() == "online"
    assert "\n/opt/check a b'c;d x,y 100%\n" in host.log()
    assert host.seen["SMF_FMRI"] == FMRI
    assert host.seen["PATH"] == "/usr/sbin:/usr/bin"
    assert not [name for name in host.seen if name.startswith("LD_")]


def test_a_missing_working_directory_is_a_configuration_error(host: Host) -> None:
    text = manifest("site/memproxy", (), "/opt/check", enabled=True)
    context = '    <method_context working_directory="/no/such/dir"/>\n    <exec_method'
    host.put(text=text.replace("    <exec_method", context, 1))
    assert host.state() == "maintenance"
    assert 'chdir: No such file or directory ("/no/such/dir")' in host.log()
    assert host.runs == 0


def test_a_success_clears_the_failures(host: Host) -> None:
    """Three attempts again; without a success in between a single one (as recorded)."""
    host.put()
    host.status = 1
    host.fine("svcadm", "enable", FMRI)
    assert (host.state(), host.runs) == ("maintenance", 3)
    host.status = 0
    host.fine("svcadm", "clear", FMRI)
    host.status = 1
    host.fine("svcadm", "restart", FMRI)
    assert (host.state(), host.runs) == ("maintenance", 3 + 1 + 3)


def test_every_one_of_several_required_services_counts(host: Host) -> None:
    host.put("site/other", "/opt/o.xml")
    host.put(requires=("system/filesystem/local:default", "site/other:default"))
    between = (
        '    </dependency>\n    <dependency name="needs-1" grouping="require_all" restart_on="none" type="service">\n'
    )
    one_group = host.lab.path("/opt/m.xml").read_text().replace(between, "")
    assert one_group.count("<dependency ") == 1
    host.put(text=one_group)
    host.fine("svcadm", "enable", FMRI)
    assert host.state() == "offline"
    host.fine("svcadm", "enable", "svc:/site/other:default")
    assert host.state() == "online"


def test_a_profile_that_the_early_import_applied_reaches_a_manifest_below_var(host: Host) -> None:
    """It is applied again by the late import of the same boot, and never after that (section 14)."""
    host.lab.write("/var/svc/manifest/site/memproxy.xml", manifest("site/memproxy", (), "/opt/check").encode())
    profile = (
        '<?xml version="1.0"?>\n'
        '<!DOCTYPE service_bundle SYSTEM "/usr/share/lib/xml/dtd/service_bundle.dtd.1">\n'
        '<service_bundle type="profile" name="on"><service name="site/memproxy" type="service" version="1">'
        '<instance name="default" enabled="true"/></service></service_bundle>\n'
    )
    host.lab.write("/etc/svc/profile/site/memproxy.xml", profile.encode())
    host.lab.boot()
    assert host.state() == "online"
    host.fine("svcadm", "disable", FMRI)
    host.lab.boot()
    assert host.state() == "disabled"
