"""svc.startd: the state machine of every instance, in steps, by a clock of its own (sections 4, 5, 8).

A request is stored and nothing happens; each step then takes one request, starts one method or looks after one that
has ended. Methods are really run, through the laboratory's /sbin/sh.
"""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING

from tests.host.laboratory.smf_context import BadContext, Context, context, expand
from tests.host.laboratory.smf_dependencies import dependents, is_satisfied
from tests.host.laboratory.smf_repository import Instance, Property, Running
from tests.host.laboratory.system import Result

if TYPE_CHECKING:
    from tests.host.laboratory.smf import Smf

UP = ("online", "degraded")
FATAL_EXITS = (95, 96, 99, 100)
ATTEMPTS = 3
STARTS, TOO_QUICK_SECONDS = 5, 600.0
_SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 8: "FPE", 9: "KILL", 10: "BUS", 11: "SEGV", 15: "TERM"}
_DUMPS = {3, 4, 6, 8, 10, 11}
_STEPS = 20000


class Restarter:
    """Drives the instances of `smf.repository`."""

    def __init__(self, smf: Smf) -> None:
        self.smf = smf
        self.method: Context | None = None
        """What the method that is being run runs with."""
        self.slept = 0.0
        """Seconds that it has slept by the virtual clock."""

    # Requests

    def request(self, instance: Instance, what: str) -> None:
        """Store a request: adopt, enable, disable, restart, refresh, clear, maintenance."""
        instance.runtime.requests.append(what)
        self.smf.polls = 0

    def set_enabled(self, instance: Instance, enabled: bool, temporary: bool = False, comment: str = "") -> None:
        """Write the setting and ask for it. A permanent one removes a temporary one."""
        name = "general_ovr" if temporary else "general"
        changes: dict[str, Property | None] = {"enabled": Property("boolean", [str(enabled).lower()])}
        if self.smf.release != "10":
            changes["comment"] = Property("astring", [comment])
        instance.group(name, persistent=not temporary).write(changes)
        if not temporary:
            instance.groups.pop("general_ovr", None)
        self.request(instance, "enable" if enabled else "disable")

    # Steps

    def busy(self) -> bool:
        """Whether a step would do something."""
        return any(self._next(instance) is not None for instance in self.smf.repository.instances())

    def settle(self) -> None:
        """Step until nothing is left to do."""
        for _ in range(_STEPS):
            if not self.step():
                return
        raise RuntimeError("the laboratory's restarter does not come to rest")

    def begin(self) -> None:
        """Step until a method is under way, or nothing is left to do."""
        for _ in range(_STEPS):
            if any(one.runtime.method is not None for one in self.smf.repository.instances()) or not self.step():
                return

    def step(self) -> bool:
        """One thing; False if there was nothing to do. What is new is taken over before anything is started."""
        waiting = [(one, what) for one in self.smf.repository.instances() if (what := self._next(one)) is not None]
        if not waiting:
            return False
        instance, what = min(waiting, key=lambda pair: (pair[1] != "adopt", pair[0].fmri))
        self.smf.now += 0.1
        self._do(instance, what)
        return True

    def _next(self, instance: Instance) -> str | None:
        runtime = instance.runtime
        if runtime.method is not None:
            return None if runtime.method.active else "ended"
        if runtime.requests:
            return runtime.requests[0]
        state = instance.state
        if state == "offline" and runtime.enabled and is_satisfied(self.smf, instance):
            return "start"
        return None

    def _do(self, instance: Instance, what: str) -> None:
        runtime = instance.runtime
        if what == "ended":
            self._ended(instance)
            return
        if what == "start":
            self._start(instance)
            return
        runtime.requests.pop(0)
        if not instance.state and what != "adopt":
            return  # not taken over: nobody listens
        getattr(self, f"_on_{what}")(instance)

    def _on_adopt(self, instance: Instance) -> None:
        instance.runtime.enabled = instance.enabled
        self._log(instance, "Enabled." if instance.enabled else "Disabled.")
        self.put(instance, "offline" if instance.enabled else "disabled", "per_configuration")

    def _on_enable(self, instance: Instance) -> None:
        if instance.runtime.enabled:
            return
        instance.runtime.enabled = True
        if instance.state == "disabled":
            self._log(instance, "Enabled.")
            self.put(instance, "offline", "enable_request")

    def _on_disable(self, instance: Instance) -> None:
        runtime = instance.runtime
        runtime.enabled = False
        runtime.starts = []
        if instance.state in UP:
            self._log(instance, "Stopping because service disabled.")
            self._run(instance, "stop", "disabled", "disable_request")
        elif instance.state in ("offline", "maintenance"):
            if instance.state == "maintenance":
                self._log(instance, "Leaving maintenance because disable requested.")
            self._log(instance, "Disabled.")
            self.put(instance, "disabled", "disable_request")

    def _on_restart(self, instance: Instance) -> None:
        if instance.state in UP:
            instance.runtime.starts = []
            self._log(instance, "Stopping because service restarting.")
            self._run(instance, "stop", "offline", "restart_request")

    def _on_refresh(self, instance: Instance) -> None:
        instance.take("running")
        self._log(instance, "Rereading configuration.")
        self._acted(instance, "refresh")
        if instance.state in UP:
            self._run(instance, "refresh", "online", "none")

    def _on_clear(self, instance: Instance) -> None:
        if instance.state != "maintenance":
            return
        runtime = instance.runtime
        runtime.starts = []
        self._log(instance, "Leaving maintenance because clear requested.")
        self._log(instance, "Enabled." if runtime.enabled else "Disabled.")
        self._acted(instance, "maint_off")
        self.put(instance, "offline" if runtime.enabled else "disabled", "clear_request")

    def _on_maintenance(self, instance: Instance) -> None:
        if instance.state == "maintenance":
            return
        self._acted(instance, "maint_on")
        self._log(instance, "Stopping for maintenance due to service_request.")
        if instance.state in UP:
            self._run(instance, "stop", "maintenance", "service_request")
        else:
            self._log(instance, "Stopping for maintenance due to service_request.")
            self.put(instance, "maintenance", "service_request")

    def _acted(self, instance: Instance, action: str) -> None:
        """The action's property, empty once svc.startd has seen it."""
        instance.group("restarter_actions", persistent=False).write({action: Property("integer", [])})

    # Methods

    def _start(self, instance: Instance) -> None:
        runtime = instance.runtime
        runtime.starts = [*runtime.starts, self.smf.now][-STARTS:]
        if len(runtime.starts) == STARTS and runtime.starts[-1] - runtime.starts[0] < TOO_QUICK_SECONDS * (STARTS - 1):
            self._log(instance, "Restarting too quickly, changing state to maintenance.")
            self.put(instance, "maintenance", "restarting_too_quickly")
            return
        kept = ("restart_request", "clear_request")
        reason = instance.restarter("auxiliary_state") or ""
        self._run(instance, "start", "online", reason if reason in kept else "dependencies_satisfied")

    def _run(self, instance: Instance, method: str, after: str, reason: str) -> None:
        """Begin a method; `after` is the state that its success leads to, `reason` its auxiliary state."""
        self.put(instance, instance.state, reason, after)
        group = instance.group("restarter", persistent=False)
        group.write({"logfile": Property("astring", [self.smf.log_path(instance)])})
        runtime = instance.runtime
        text = instance.look_up(method, "exec", "running")
        if text is None:
            words = (
                "No 'refresh' method defined.  Treating as :true."
                if method == "refresh"
                else f"Method property group '{method}' is not present."
            )
            self._log(instance, words)
            runtime.method = Running(method, after, 0, executed=False)
            return
        command = text.values[0]
        if command.startswith(":kill") and self._duration(instance) == "transient":
            self._log(instance, f'Invalid use of "{command.split()[0]}" as {method} method for transient service.')
            self.put(instance, "maintenance", "method_failed")
            return
        if command == ":true" or command.startswith(":kill"):
            self._log(instance, f"Executing {method} method ({'null' if command == ':true' else command}).")
            runtime.method = Running(method, after, 0, executed=False)
            return
        try:
            found = context(instance, method, expand(instance, method, command, self.smf), self.smf)
        except BadContext as error:
            self._log(instance, str(error))
            self.put(instance, "maintenance", "method_failed")
            return
        self._execute(instance, method, after, found)

    def _execute(self, instance: Instance, method: str, after: str, found: Context) -> None:
        for line in found.warnings:
            self._log(instance, line)
        self._log(instance, f'Executing {method} method ("{found.command}").')
        seconds = self._timeout(instance, method)
        if instance.service.name == "system/manifest-import" and method == "start":
            self._log(instance, "Timeout override by svc.startd.  Using infinite timeout.")
            seconds = 0.0
        started = self.smf.now
        self.smf.pid += 1
        running = Running(method, after, 0, found.command.split()[0].rpartition("/")[2], self.smf.pid, started)
        instance.runtime.method = running
        if method == "start":
            instance.group("restarter", persistent=False).write({"start_pid": Property("count", [str(self.smf.pid)])})
            instance.group("restarter", persistent=False).write(
                {"start_method_timestamp": Property("time", [self.smf.timestamp()])}
            )
        if not self._is_directory(found.directory):
            words = f'chdir: No such file or directory ("{found.directory}")\n'
            self.smf.append_log(instance, f"svc.startd could not set context for method: {words}")
            running.wait_status = 96 << 8
            return
        self.method, self.slept = found, 0.0
        running.active = True
        lab = self.smf.lab
        before = len(lab.calls)
        try:
            result = lab.execute(["/sbin/sh", "-c", f"exec {found.command}"], found.environment, found.uid, b"")
        except OSError as error:  # the shell itself cannot be executed
            result = Result(127, err=f"/sbin/sh: {error.strerror}\n".encode())
        finally:
            self.method = None
            running.active = False
        for argv in lab.calls[before:]:
            fault = lab.faults.get(argv[0])
            if fault is not None and fault.when(argv):
                self.slept += fault.seconds
        self.smf.append_log(instance, (result.out + result.err).decode("utf-8", "surrogateescape"))
        self.smf.now = max(self.smf.now, started) + min(self.slept, seconds or self.slept)
        if seconds and self.slept > seconds:
            running.timed_out = True
            running.wait_status = 9
        elif result.status < 0:
            running.wait_status = -result.status | (0x80 if -result.status in _DUMPS else 0)
        else:
            running.wait_status = (result.status & 0xFF) << 8

    def _is_directory(self, path: str) -> bool:
        try:
            return stat.S_ISDIR(self.smf.host(path).stat().st_mode)
        except OSError:
            return path == "/"

    def _ended(self, instance: Instance) -> None:
        """Look after a method that has ended."""
        runtime = instance.runtime
        running, runtime.method = runtime.method, None
        assert running is not None
        method, status = running.name, running.wait_status
        exit_status, signal = status >> 8, status & 0x7F
        group = instance.group("restarter", persistent=False)
        if running.executed:
            if running.timed_out:
                self.smf.contract += 1
                words = f"Method or service exit timed out.  Killing contract {self.smf.contract}."
                self._log(instance, words)
            words = (
                f"failed due to signal {_SIGNALS.get(signal, signal)}"
                if signal
                else f"exited with status {exit_status}"
            )
            self._log(instance, f'Method "{method}" {words}.')
        if method == "start":
            group.write({"start_method_waitstatus": Property("integer", [str(status)])})
            if self._duration(instance) == "transient" and running.executed:
                group.write({"transient_contract": Property("count", [])})
        good = status == 0 or (not signal and exit_status == 94 and self.smf.release != "10")
        if good:
            runtime.failures = 0
            self._succeeded(instance, running)
            return
        if not signal and exit_status in FATAL_EXITS:
            self.put(instance, "maintenance", "method_failed")
            return
        runtime.failures += 1
        if runtime.failures >= ATTEMPTS:
            self.put(instance, "maintenance", "fault_threshold_reached")
        elif method == "start":
            self._start(instance)
        else:
            self._run(instance, method, running.after, instance.restarter("auxiliary_state") or "none")

    def _succeeded(self, instance: Instance, running: Running) -> None:
        was = instance.state
        reason = instance.restarter("auxiliary_state") or "none"
        if running.after == "maintenance":
            self._log(instance, "Stopping for maintenance due to service_request.")
        self.put(instance, running.after, reason)
        if running.name == "stop" and was in UP:
            self._stopped(instance, reason)
        ended = running.name == "start" and running.executed and running.wait_status >> 8 != 94
        if ended and self._duration(instance) == "contract":
            # Nothing of the laboratory's programs stays behind: the contract is empty.
            self._log(instance, "Stopping because all processes in service exited.")
            self._run(instance, "stop", "offline", "ct_ev_exit")

    def _stopped(self, instance: Instance, reason: str) -> None:
        """Stop what depends on it, as its restart_on says."""
        error = reason in ("ct_ev_core", "ct_ev_signal", "ct_ev_hwerr")
        for other, restart_on in dependents(self.smf, instance):
            if other.state in UP and (restart_on in ("restart", "refresh") or (restart_on == "error" and error)):
                self._log(other, "Stopping because dependency activity requires stop.")
                self._run(other, "stop", "offline", "dependency_activity")

    def _duration(self, instance: Instance) -> str:
        found = instance.look_up("startd", "duration", "running")
        value = found.values[0] if found is not None else "contract"
        return value if value in ("transient", "child") else "contract"

    def _timeout(self, instance: Instance, method: str) -> float:
        found = instance.look_up(method, "timeout_seconds", "running")
        return float(found.values[0]) if found is not None else 0.0

    # Writing

    def put(self, instance: Instance, state: str, reason: str, next_state: str = "none") -> None:
        """Write a state, now."""
        instance.group("restarter", persistent=False).write(
            {
                "state": Property("astring", [state]),
                "next_state": Property("astring", [next_state]),
                "auxiliary_state": Property("astring", [reason]),
                "state_timestamp": Property("time", [self.smf.timestamp()]),
            }
        )

    def _log(self, instance: Instance, words: str) -> None:
        stamp = time.strftime("%b %e %H:%M:%S", time.gmtime(self.smf.now))
        if self.smf.release == "11.4":
            stamp = f"{time.strftime('%Y', time.gmtime(self.smf.now))} {stamp}"
        self.smf.append_log(instance, f"[ {stamp} {words} ]\n")
