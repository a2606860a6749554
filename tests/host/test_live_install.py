"""install, verify and uninstall on the running system, through crle, SMF, trial and guard, in the laboratory."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from memproxy_sol import pending
from tests.host.laboratory import Fault, Laboratory, Result
from tests.host.live import Live


def test_install_on_the_running_system(live: Live) -> None:
    status = live.install()
    assert status == 0, live.err + live.out
    assert live.lab.brick() is None
    for bits in (32, 64):
        crle = ["/usr/bin/crle", *(["-64"] if bits == 64 else [])]
        assert b"libmemproxy.so" in live.lab.execute(crle, {}).out
    assert live.run("verify") == 0, live.out
    states = live.lab.execute(["/usr/bin/svcs", "-H", "-o", "state", "svc:/site/memproxy:default"], {})
    assert states.out.split() == [b"online"]


PROGRAM = "/usr/local/bin/memproxy-sol"


def started(live: Live) -> list[dict[str, str]]:
    """The environments in which the program of the service is started from now on."""
    seen: list[dict[str, str]] = []
    original = live.lab.programs[PROGRAM].implementation

    def run(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
        assert list(argv[1:]) == ["verify", "--smf"]
        seen.append(dict(env))
        return original(lab, argv, env, uid, stdin)

    live.lab.faults[PROGRAM] = Fault(instead=run)
    return seen


def outside_memory(live: Live) -> dict[str, tuple[Any, ...]]:
    return {name: found for name, found in live.snapshot().items() if not name.startswith(("var/run", "etc/svc/rep"))}


def test_preflight_starts_the_method_as_smf_does(live: Live) -> None:
    seen = started(live)
    assert live.install("--dry-run") == 3, live.err
    assert [(env["LD_NOCONFIG"], env["SMF_METHOD"]) for env in seen] == [("yes", "start")]
    assert live.install() == 0, live.err
    assert len(seen) > 2  # preflight and the service itself


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault(works=False, status=127, err=b"python3: not found\n"), "ends with status 127: python3: not found"),
        (Fault(works=False, out=b"hello\n"), "is another program than memproxy-sol"),
        (Fault(works=False, status=-11), "is ended by signal 11"),
    ],
    ids=["its interpreter is missing", "another program", "dies"],
)
def test_a_method_that_does_not_start_forbids_the_change(fault: Fault, why: str, live: Live) -> None:
    live.lab.faults[PROGRAM] = fault
    before = outside_memory(live)
    assert live.install() == 1
    assert f"error: service-method: {PROGRAM}: started as the service's method it {why}" in live.err
    assert outside_memory(live) == before
    live.write("etc/memproxy.toml", b"service = false\n")
    assert live.install() == 0, live.err


def test_a_plan_starts_no_method_that_would_take_a_change_back(live: Live) -> None:
    assert live.install() == 0, live.err
    (journal,) = (live / "var/opt/memproxy/changes").glob("*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    assert b"complete" in lines[-1]
    journal.write_bytes(b"".join(line for line in lines if b'"complete"' not in line and b'"trial"' not in line))
    before = outside_memory(live)
    seen = started(live)
    live.run("plan", "--libraries", str(live.objects))
    assert seen == []
    assert outside_memory(live) == before


def test_a_generation_that_others_name_goes_with_the_purge_though_its_change_was_taken_back(live: Live) -> None:
    before = set(os.listdir(live.root.host_path("/usr/local/lib")))
    assert live.install("--try", "600") == 0, live.err
    crle = ["/usr/bin/crle", "-64", "-c", "/var/ld/64/ld.config", "-u", "-l", "/opt/a/lib"]
    assert live.lab.execute(crle, {}).status == 0
    trial = pending.read(live.root)
    assert trial is not None
    os.kill(trial.guard, signal.SIGKILL)
    live.lab.boot()
    assert live.uninstall() == 0, live.err + live.out
    assert live.lab.brick() is None
    live.lab.boot()
    assert live.uninstall("--purge") == 0, live.err + live.out
    assert set(os.listdir(live.root.host_path("/usr/local/lib"))) == before
    assert not live.root.exists("/var/opt/memproxy")
