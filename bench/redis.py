"""A redis-server of our own on a socket, without persistence, and redis-benchmark against it."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from bench.configurations import PLAIN, Configuration
from bench.paired import time_command
from bench.programs import tool
from memproxy_sol.errors import MemproxyError

START_SECONDS = 20.0


class RedisServer:
    """A context: the server is up inside, and stopped afterwards, whatever happens.

    `processor`: the processor time, in seconds, that the server took between start and stop; set at the end.
    """

    def __init__(self, scratch: Path, configuration: Configuration) -> None:
        self.program = tool("redis-server", "redis-server")
        self.client = tool("redis-benchmark", "redis-tools")
        self.configuration = configuration
        self.scratch = scratch
        self.processor = 0.0

    def __enter__(self) -> RedisServer:
        # Not below the scratch directory, since a socket's path is short.
        self.directory = tempfile.TemporaryDirectory(prefix="redis-")
        self.socket = f"{self.directory.name}/socket"
        self.log = Path(self.directory.name, "log")
        options = ["--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no", "--daemonize", "no"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [self.program, *options, "--dir", self.directory.name],
                env=self.configuration.environment({"MEMPROXY_DEBUG": "1"}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def told(self) -> list[str]:
        """What libmemproxy said of this server."""
        return [line for line in self.log.read_text().splitlines() if line.startswith("memproxy: ")]

    def benchmark(self, requests: int) -> float:
        """Run redis-benchmark, without any preload; return its wall time in seconds."""
        command = [self.client, "-s", self.socket, "-q", "-n", str(requests), "-P", "16", "-r", "10000", "-d", "64"]
        return time_command([*command, "-t", "set,get,lpush,lpop,hset"], PLAIN.environment()).wall

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket(socket.AF_UNIX) as line:
                try:
                    line.connect(self.socket)
                    line.sendall(b"PING\r\n")
                    if line.recv(16).startswith(b"+PONG"):
                        return
                except OSError:
                    time.sleep(0.005)
        raise MemproxyError(f"does not answer:\n{self.log.read_text()[-1000:]}", where="redis-server")

    def _stop(self) -> None:
        if self.process.returncode is None:
            self.process.terminate()
            _, status, usage = os.wait4(self.process.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self.processor = usage.ru_utime + usage.ru_stime
        self.directory.cleanup()
