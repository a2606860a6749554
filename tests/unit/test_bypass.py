"""bypass.py and `memproxy-sol bypass`: the environment, the command's status and the statuses of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from memproxy_sol import abi, bypass, preloads
from memproxy_sol.ld_config import Variable, encode, layout_for, new
from memproxy_sol.root import Root

TOP = Path(__file__).parents[2]
LIBRARY = "/usr/local/lib/memproxy/0123456789abcdef/64/libmemproxy.so"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "memproxy_sol", "bypass", *arguments],
        env={**os.environ, "PYTHONPATH": str(TOP), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def config(bits: int, permanent: bool = False) -> bytes:
    value = new(layout_for(abi.X86, bits))
    variable = Variable.define(f"LD_PRELOAD_{bits}", LIBRARY, permanent)
    return encode(type(value)(**{**value.__dict__, "environment": (variable,)}))


def write(top: Path, bits: int, data: bytes) -> None:
    path = top / abi.ABIS[bits].config_path[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_linux() -> None:
    assert bypass.environment(Root("/"), "linux") == {"MEMPROXY_ROUTE": "system"}


@pytest.mark.parametrize("permanent", [False, True])
def test_solaris(tmp_path: Path, permanent: bool) -> None:
    data = config(64, permanent)
    write(tmp_path, 64, data)
    found = bypass.environment(Root(str(tmp_path)), "sunos5")
    assert found == {"MEMPROXY_ROUTE": "system", "LD_NOENVCONFIG": "yes"}
    assert LIBRARY in preloads.effective(data, abi.ABI64).tried
    for secure in (False, True):
        assert preloads.effective(data, abi.ABI64, found, secure).tried == ()


def test_solaris_without_a_configuration(tmp_path: Path) -> None:
    assert "LD_NOENVCONFIG" in bypass.environment(Root(str(tmp_path)), "sunos5")


@pytest.mark.parametrize("bits", [32, 64])
def test_a_configuration_that_kills_every_process(tmp_path: Path, bits: int) -> None:
    write(tmp_path, 96 - bits, config(96 - bits))
    data = bytearray(config(bits))
    at = 16 + layout_for(abi.X86, bits).header_size - (8 if bits == 64 else 0)
    crashing = next(
        bytes(data[:place] + b"\xff\xff\xff\x7f" + data[place + 4 :])
        for place in range(16, at, 4)
        if preloads.effective(bytes(data[:place] + b"\xff\xff\xff\x7f" + data[place + 4 :]), abi.ABIS[bits]).result
        == preloads.CRASH
    )
    write(tmp_path, bits, crashing)
    found = bypass.environment(Root(str(tmp_path)), "sunos5")
    assert found == {"MEMPROXY_ROUTE": "system", "LD_NOCONFIG": "yes"}
    assert preloads.effective(crashing, abi.ABIS[bits], found).result == preloads.NOT_READ


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "var/ld/ld.config").mkdir(parents=True)
    assert "LD_NOCONFIG" in bypass.environment(Root(str(tmp_path)), "sunos5")


def test_the_command_and_what_it_starts() -> None:
    done = run("--", "sh", "-c", "sh -c 'echo $MEMPROXY_ROUTE $KEPT; exit 7'", KEPT="yes", MEMPROXY_ROUTE="custom")
    assert (done.returncode, done.stdout, done.stderr) == (7, "system yes\n", "")


def test_switches_of_the_command_are_its_own() -> None:
    assert run("sh", "-c", "exit 5").returncode == 5
    assert run("sh", "-c", 'echo "$@"', "sh", "--help", "--", "-x").stdout == "--help -- -x\n"


def test_no_such_command() -> None:
    done = run("--", "/nosuch")
    assert (done.returncode, done.stderr) == (127, "memproxy-sol: /nosuch: No such file or directory\n")


def test_not_executable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run(str(tmp_path / "file")).returncode == 126


def test_no_command() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (
        125,
        "memproxy-sol: no command given; see memproxy-sol bypass --help\n",
    )


def test_unknown_switch() -> None:
    assert run("--nosuch", "true").returncode == 125


def test_signal() -> None:
    assert run("sh", "-c", "kill -9 $$").returncode == -9
