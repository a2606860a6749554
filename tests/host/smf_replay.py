"""Replays a recorded story of the SMF commands in a laboratory, and says where it goes another way."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.host.laboratory import Laboratory, Program, Result
from tests.host.laboratory.smf import NeverReturns
from tests.host.laboratory.smf_boot import manifest

FMRI = "svc:/site/memproxy:default"
RECORDS: dict[str, dict[str, Any]] = {
    record["name"]: record
    for record in json.loads((Path(__file__).parents[1] / "data" / "smf" / "smf.json").read_text("utf-8"))
}
PATHS = {
    **dict.fromkeys(("svccfg", "svcadm"), "/usr/sbin/"),
    **dict.fromkeys(("svcs", "svcprop", "crle"), "/usr/bin/"),
}
LOG, IMPORT_LOG = "/var/svc/log/site-memproxy:default.log", "/var/svc/log/system-manifest-import:default.log"
ACCOUNTS = {
    "/etc/passwd": "root:x:0:0:Super-User:/root:/sbin/sh\ndaemon:x:1:1::/:\n",
    "/etc/group": (
        "root::0:\nother::1:root\nbin::2:root,daemon\nsys::3:root\nadm::4:root,daemon\nuucp::5:root\nmail::6:root\n"
        "tty::7:root\nlp::8:root\nnuucp::9:root\ndaemon::12:root\n"
    ),
}
DOMAIN_PAGES = (
    '<documentation><manpage title="domainname" section="1M" manpath=":default"/>'
    '<manpage title="defaultdomain" section="4" manpath=":default"/></documentation></template>'
)
PLATFORM = re.compile(
    r"^(/etc/svc system profiles not found|ln: cannot create /etc/svc/profile/platform|svcadm: Repository is read-only"
    r"|etc_svc_profile_platform|.*/etc/svc/profile/platform\.xml).*\n",
    re.MULTILINE,
)
"""Lines about the link from platform.xml to the profile of the machine's platform, which a laboratory has not."""
UNORDERED = {("import-early", (0, "stdout"))}
"""Instances that were disabled within one second, in an order that depends on the emulated machine's clock."""
SHELL_NAMES = re.compile(r"^(A__z|PWD|SHLVL|_)=.*\n", re.MULTILINE)
"""Variables of ksh93's own in the environment that a method prints."""


@dataclass
class Machine:
    """A laboratory furnished as the recorded machine was."""

    lab: Laboratory
    calls: list[str] = field(default_factory=list)
    """What the method was called with."""
    environment: dict[str, str] = field(default_factory=lambda: {"LC_ALL": "C"})
    logs: dict[str, int] = field(default_factory=dict)
    """How much of each log belongs to what was before."""

    def run(self, *argv: str, environment: Mapping[str, str] | None = None, stdin: bytes = b"") -> Result:
        """A command, and then the wait until the state has settled."""
        path = PATHS.get(argv[0], "") + argv[0]
        return self.lab.execute([path, *argv[1:]], {**self.environment, **(environment or {})}, 0, stdin)

    def settled(self, *argv: str) -> None:
        """A command that must succeed, and the wait until the state has settled."""
        result = self.run(*argv)
        assert result.status == 0, (argv, result)
        self.lab.smf.settle()

    def mode(self, text: str) -> None:
        """What the start method does from now on."""
        self.lab.write("/opt/t/mode", f"{text}\n".encode())

    def text(self, path: str) -> str:
        """The content of a file, empty if there is none."""
        host = self.lab.path(path)
        return host.read_text("utf-8", "surrogateescape") if host.exists() else ""

    def new_log(self, path: str = LOG) -> str:
        """What was added to a log since the last call."""
        text = self.text(path)
        start, self.logs[path] = self.logs.get(path, 0), len(text)
        return text[start:]


def machine(top: Path) -> Machine:
    """The recorded machine before the first record."""
    lab = Laboratory(top, machine="aarch64")
    here = Machine(lab)
    for path, text in ACCOUNTS.items():
        lab.write(path, text.encode())
    here.mode("exit 0")
    domain = manifest("system/identity", (), ":true", "system identity (domainname)")
    domain = domain.replace('create_default_instance enabled="false"/', 'instance name="domain" enabled="false"/')
    # The instance goes behind the property groups, the pages into the template.
    domain = re.sub(r'    <instance name="domain" enabled="false"/>\n', "", domain)
    domain = domain.replace("    <stability", '    <instance name="domain" enabled="false"/>\n    <stability')
    domain = domain.replace("</template>", DOMAIN_PAGES)
    network = manifest("milestone/network", ("network/physical",), ":true", "Network milestone", enabled=True)
    for name, text in (("identity", domain), ("network", network)):
        lab.write(f"/lib/svc/manifest/system/{name}.xml", text.encode())

    def method(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
        return _method(here, argv, env, uid)

    def stopper(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
        return Result(int(argv[1]), f"stopper {argv[1]}\n".encode())

    lab.install_program("/opt/t/method", Program(64, method))
    lab.install_program("/opt/t/stopper", Program(64, stopper))
    lab.write("/opt/t/not-executable", b"#!/sbin/sh\n", 0o644)
    lab.boot()
    lab.smf.polls_until_settled = 1_000_000  # the stories say themselves when was waited
    return here


def _method(here: Machine, argv: Sequence[str], env: Mapping[str, str], uid: int) -> Result:
    """The recorded machine's start method."""
    out = f"method called with: {' '.join(argv[1:])}\n"
    here.calls.append(" ".join(argv[1:2]))
    what, _, value = here.text("/opt/t/mode").strip().partition(" ")
    if what == "always":
        what, _, value = value.partition(" ")
    elif argv[1] != "start":
        return Result(0, f"{out}method: not start, exit 0\n".encode())
    if what == "kill":
        return Result(-{"KILL": 9, "TERM": 15, "SEGV": 11}[value], out.encode())
    if what == "sleep":
        here.lab.smf.sleep(float(value))
    elif what == "args":
        out += "".join(f"arg <{word}>\n" for word in argv[1:])
    elif what == "env":
        context = here.lab.smf.restarter.method
        assert context is not None

        def named(numbers: Sequence[int]) -> str:
            accounts = [line.split(":") for line in ACCOUNTS["/etc/group"].splitlines()]
            return ",".join(f"{n}({name})" for n in numbers for name, _, number, _ in accounts if int(number) == n)

        groups = f" groups={named(context.groups)}" if context.groups else ""
        user = {0: "root", 1: "daemon"}[uid]
        out += f"cwd={context.directory}\nuid={uid}({user}) gid={named([context.gid])}{groups}\n"
        out += "".join(f"{name}={env[name]}\n" for name in sorted(env))
    elif what == "err":
        return Result(int(value), out.encode(), b"a line on stderr\n")
    return Result(int(value) if what == "exit" else 0, out.encode())


def normalised(text: str) -> str:
    """With the recordings' placeholders for what differs from run to run."""
    text = re.sub(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}", "<TIME>", text)
    text = re.sub(r"^\[ [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d ", "[ <TIME> ", text, flags=re.MULTILINE)
    text = re.sub(r"(?<=\s)[ \d]\d:\d\d:\d\d", "<TIME>", text)
    text = re.sub(r"\b\d{9,10}\.\d{9}\b", "<TIME>", text)
    text = re.sub(r"(start_pid count )\d+", r"\1<PID>", text)
    text = re.sub(r"^( {15}<TIME> +)\d+ ", r"\1<PID> ", text, flags=re.MULTILINE)
    text = re.sub(r"Killing contract \d+", "Killing contract <CTID>", text)
    text = re.sub(r"(md5sum opaque )[0-9a-f]{64}", r"\1<HASH>", text)
    return SHELL_NAMES.sub("", re.sub(r"(?<=<TIME>) +(?=<PID>)", "   ", text))


@dataclass
class Replay:
    """A record that is being replayed, and its differences so far."""

    record: dict[str, Any]
    here: Machine
    unmodelled: Mapping[tuple[str, object], str]
    differences: list[str] = field(default_factory=list)
    steps: int = 0
    skipped: set[tuple[str, object]] = field(default_factory=set)

    @property
    def name(self) -> str:
        return str(self.record["name"])

    def compare(self, what: object, wanted: str | None, got: str) -> None:
        """Note a difference, unless this is named as not modelled."""
        wanted, got = PLATFORM.sub("", normalised(wanted or "")), normalised(got)
        if (self.name, what) in UNORDERED:
            wanted, got = (" ".join(sorted(text.splitlines())) for text in (wanted, got))
        if (self.name, what) in self.unmodelled:
            self.skipped.add((self.name, what))
        elif wanted != got:
            self.differences.append(f"{what}\n  recorded {wanted!r}\n  got      {got!r}")

    def files(self) -> None:
        """The record's manifests as /opt/t/m/NAME.xml."""
        named = {**self.record.get("manifests", {}), self.record.get("manifest_name"): self.record.get("manifest")}
        for name, text in named.items():
            if name:
                self.here.lab.write(f"/opt/t/m/{name}.xml", text.encode())

    def set_up(self) -> None:
        """The record's manifest is imported."""
        self.files()
        self.here.settled("svccfg", "import", f"/opt/t/m/{self.record['manifest_name']}.xml")

    def step(self, index: int, settle: bool = True, environment: Mapping[str, str] | None = None) -> None:
        """Run a step and compare what it said."""
        step = self.record["steps"][index]
        argv = step.get("argv")
        try:
            if argv is None:
                result = shell_line(self.here, step["sh"])
            elif argv[0] in ("touch", "rm", "cp"):
                result = shell_line(self.here, " ".join(argv))
            else:
                result = self.here.run(*argv, environment=environment)
        except NeverReturns as never:
            result = Result(0, never.out, never.err)
            self.compare((index, "stopped"), "True", str(step.get("stopped_by_limit", False)))
        else:
            self.compare((index, "exit"), str(step["exit"]), str(result.status))
        self.steps += 1
        self.compare((index, "stdout"), step["stdout"], result.out.decode("utf-8", "surrogateescape"))
        self.compare((index, "stderr"), step["stderr"], result.err.decode("utf-8", "surrogateescape"))
        if settle:
            self.here.lab.smf.settle()

    def end(self, log: str = LOG) -> None:
        """Compare what the record says of the end."""
        after = self.record.get("state_after")
        if after is not None:
            state = self.here.run("svcs", "-H", "-o", "state,nstate,sta,nsta", FMRI).out.decode()
            auxiliary = self.here.run("svcprop", "-p", "restarter/auxiliary_state", FMRI).out.decode()
            self.compare("state", after["svcs -H -o state,nstate,sta,nsta"], state.rstrip("\n"))
            self.compare("auxiliary_state", after["auxiliary_state"], auxiliary.rstrip("\n"))
        if "log" in self.record:
            self.compare("log", self.record["log"], self.here.new_log(log))
        if "method_calls" in self.record:
            self.compare("calls", " ".join(name for _, name in self.record["method_calls"]), " ".join(self.here.calls))


def shell_line(here: Machine, line: str) -> Result:
    """The few lines of ksh that the records have."""
    lab = here.lab
    words = line.split()
    if words[0] == "cp":
        lab.write(words[2], lab.path(words[1]).read_bytes())
    elif words[0] == "rm":
        for path in words[1:]:
            lab.path(path).unlink()
    elif words[0] == "touch":
        os.utime(lab.path(words[1]), (2_000_000_000, 2_000_000_000))  # not the second in which it was written
    elif line.startswith("cd /opt/t/m; "):
        return here.run(*line.partition("; ")[2].split(), environment={"PWD": "/opt/t/m"})
    elif found := re.fullmatch(r"(?:echo|print) (.*?) \| svccfg", line):
        text = found.group(1).strip("'").replace("\\n", "\n")
        return here.run("svccfg", stdin=f"{text}\n".encode())
    elif found := re.fullmatch(r"print '(.*)' > (\S+); (.*)", line):
        lab.write(found.group(2), found.group(1).replace("\\n", "\n").encode() + b"\n")
        return here.run(*found.group(3).split())
    elif found := re.fullmatch(r"print (\S+) >> (\S+)", line):
        lab.write(found.group(2), here.text(found.group(2)).encode() + f"{found.group(1)}\n".encode())
    elif found := re.fullmatch(r"(svcprop .*?) \| grep (.*)", line):
        wanted = [word for word in found.group(2).split() if word != "-e"]
        lines = here.run(*found.group(1).split()).out.decode().splitlines(keepends=True)
        return Result(0, "".join(one for one in lines if any(word in one for word in wanted)).encode())
    elif found := re.fullmatch(r"SVCCFG_CHECKHASH=1 (.*)", line):
        return here.run(*found.group(1).split(), environment={"SVCCFG_CHECKHASH": "1"})
    elif found := re.fullmatch(r"cat (.*?)(?: \| tail -(\d+))?", line):
        missing = [path for path in found.group(1).split() if not lab.path(path).exists()]
        err = "".join(f"cat: {path}: cannot open [No such file or directory]\n" for path in missing)
        lines = "".join(here.text(path) for path in found.group(1).split()).splitlines(keepends=True)
        status = 1 if missing and not found.group(2) else 0
        return Result(status, "".join(lines[-int(found.group(2) or 10**6) :]).encode(), err.encode())
    elif words[0] == "svcprop":
        return here.run(*words)
    elif words[0] in ("/usr/bin/od", "ls"):
        return Result(0 if all(lab.path(word).exists() for word in words if word.startswith(("/var", "/lib"))) else 2)
    else:
        raise NotImplementedError(line)
    return Result(0)
