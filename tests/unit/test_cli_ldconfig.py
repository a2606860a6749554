"""`memproxy-sol ldconfig`, as it is typed."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import FILES, LAYOUTS

from memproxy_sol import ld_config
from memproxy_sol.abi import AARCH64, SPARC
from memproxy_sol.cli import main
from memproxy_sol.ld_config import Layout, LdConfig, Variable, encode, layout_for, new

CONFIG = replace(
    new(LAYOUTS["64"]),
    library_path=("/lib/64", "/usr/lib/64"),
    trusted_directories=("/opt/g/64",),
    environment=(
        Variable.define("LD_PRELOAD_64", "/opt/g/64/libmemproxy.so:/opt/liballoc.so", True),
        Variable.define("LD_BIND_NOW", None),
    ),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ld.config"
    path.write_bytes(encode(CONFIG))
    return path


def store(path: Path, config: LdConfig) -> str:
    path.write_bytes(encode(config))
    return str(path)


def recorded(path: Path, name: str) -> str:
    path.write_bytes(next(data for data, (other, _) in FILES.items() if other == name))
    return str(path)


def run(*arguments: str | Path) -> int:
    return main(["ldconfig", *map(str, arguments)])


# show


def test_show_as_text(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", file) == 0
    preloads = "LD_PRELOAD_64=/opt/g/64/libmemproxy.so:/opt/liballoc.so"
    assert capsys.readouterr().out.splitlines() == [
        f"{file}: 228 bytes, version 4, 64-bit LSB AMD64",
        "  Default library path:     /lib/64:/usr/lib/64",
        "  Trusted directories:      /opt/g/64",
        "Environment variables:",
        f"  {preloads}  (permanent)",
        "  LD_BIND_NOW  (replaceable)",
        "ld.so.1 of 64-bit LSB AMD64 accepts the file",
        "Preloads of a process, with an empty environment:",
        "  /opt/g/64/libmemproxy.so",
        "  /opt/liballoc.so",
        "Preloads of a set-user-id process, with an empty environment:",
        "  /opt/g/64/libmemproxy.so",
        "  /opt/liballoc.so  (refused: its directory is not a trusted one)",
        f"A crle command that says the same: crle -64 -c {file} -l /lib/64:/usr/lib/64 -s /opt/g/64 "
        f"-E {preloads} -e LD_BIND_NOW",
    ]


def test_show_escapes_what_a_terminal_would_obey(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wild = replace(
        CONFIG,
        library_path=("/a\x1b[31m", "/b\n  Platform"),
        environment=(Variable("LD_PRELOAD_64=\x07\udcff \u202e"),),
    )
    assert run("show", store(tmp_path / "x", wild)) == 0
    out = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "  Default library path:     /a\\x1b[31m:/b\\n  Platform\n" in out
    assert "  LD_PRELOAD_64=\\x07\\udcff \\u202e  (replaceable)\n" in out


def test_show_the_defaults_of_an_empty_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = store(tmp_path / "x", new(layout_for(SPARC, 64)))
    assert run("show", name) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: 104 bytes, version 4, 64-bit MSB SPARCV9",
        "  Default library path:     /lib/64:/usr/lib/64  (system default)",
        "  Trusted directories:      /lib/secure/64:/usr/lib/secure/64  (system default)",
        "ld.so.1 of 64-bit MSB SPARCV9 accepts the file",
        "Preloads of a process, with an empty environment: none",
        "Preloads of a set-user-id process, with an empty environment: none",
        f"A crle command that says the same: crle -64 -c {name} -l ''",
    ]


def test_show_all_that_a_file_may_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = replace(
        CONFIG,
        flags=0x17,
        dlflags=0xFFF,
        aout_library_path=("/usr/4lib",),
        aout_trusted_directories=(),
        environment=(),
        objects=ld_config.ObjectCache(
            (1,), (0, 0), (ld_config.CachedObject("/p/a.so", 1, 0x10, 0, 0, "/alt/a.so"),), (), application=1
        ),
        filters=(ld_config.Filter("f.so", "x:y", ("/p/x",)),),
        reservation=(0x1000, 0x2000),
    )
    assert run("show", store(tmp_path / "x", full)) == 0
    out = capsys.readouterr().out
    for line in (
        "  AOUT library path:        /usr/4lib",
        "  AOUT trusted directories: (empty, so the system default applies)",
        "  Flags:                    0x17",
        "  dldump flags:             0xfff",
        "Environment variables: none (an empty table)",
        "Object cache: 1 objects in 0 directories",
        "  /p/a.so  flags 0x10  (alternative: /alt/a.so)  (the application of this file)",
        "Filters: 1",
        "  f.so  x:y: /p/x",
        "Memory reservation: 0x1000 to 0x2000",
        "ld.so.1 ignores the file: its header says so",
    ):
        assert line + "\n" in out
    assert "No crle command says the same: " in out


@pytest.mark.parametrize("data", FILES, ids=lambda data: FILES[data][0])
@pytest.mark.parametrize("switches", [[], ["--mapped"], ["--json"], ["--mapped", "--abi", "i386"]], ids=" ".join)
def test_show_every_recorded_file(
    data: bytes, switches: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_bytes(data)
    status = run("show", *switches, tmp_path / "x")
    out, err = capsys.readouterr()
    if status == 0:
        assert out
        assert not err
    else:
        assert (status, out) == (1, "")
        assert err.startswith(f"memproxy-sol: {tmp_path}/x: ")
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "trunc-016-32",
            "header at offset 16: the file ends after 16 bytes, within its header; "
            "ld.so.1 ignores the file: it is shorter than its header",
        ),
        (
            "trunc-112-32",
            "library_path at offset 112: lies outside the file, which has 112 bytes; "
            "ld.so.1 accepts the file all the same; --mapped shows it",
        ),
        (
            "hand-version-5-64",
            "version at offset 16: 5 is not one of 1 to 4; ld.so.1 ignores the file: its version is above 4; "
            "--mapped shows it",
        ),
        (
            "corrupt-offset-64",
            "library_path at offset 268435472: lies outside the file, which has 112 bytes; ld.so.1 follows it out of "
            "the file and dies, and every program of this ABI with it; LD_NOCONFIG=yes in front of a command rescues "
            "that command",
        ),
        (
            "corrupt-text-32",
            "version at offset 0: neither an identification block nor a version number: this is no runtime linker "
            "configuration file",
        ),
    ],
)
def test_show_says_what_is_wrong_and_what_follows(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", recorded(tmp_path / "x", name)) == 1
    assert capsys.readouterr().err == f"memproxy-sol: {tmp_path}/x: {message}\n"


def test_show_mapped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "--mapped", recorded(tmp_path / "x", "trunc-167-32")) == 0
    assert "  LD_PRELOAD_32=/opt/x/lib  (replaceable)\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("layout", "switches", "shown"),
    [
        (LAYOUTS["32"], [], "32-bit LSB 80386 (a guess from the content: it has no identification block)"),
        (LAYOUTS["64"], [], "64-bit LSB AMD64 (a guess from the content: it has no identification block)"),
        (layout_for(SPARC, 64), [], "64-bit MSB SPARCV9 (a guess from the content: it has no identification block)"),
        (LAYOUTS["64"], ["--abi", "64"], "64-bit LSB AMD64"),
        (layout_for(SPARC, 32), ["--abi", "32"], "32-bit MSB SPARC"),
        (layout_for(SPARC, 32), ["--abi", "sparc"], "32-bit MSB SPARC"),
        (layout_for(AARCH64, 64), ["--abi", "64", "--machine", "aarch64"], "64-bit LSB 183"),
        (Layout(64, "big", 21), ["--abi", "64", "--machine", "21/big"], "64-bit MSB 21"),
    ],
)
def test_show_old_format(
    layout: Layout, switches: list[str], shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = store(tmp_path / "x", replace(new(layout, identified=False), library_path=("/a",)))
    assert run("show", *switches, name) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].endswith(f"bytes, version 4, {shown}")
    assert "Default library path:     /a\n" in out


def test_show_another_abi_than_the_file_says(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "--abi", "32", file) == 1
    assert "the file is for 64-bit LSB AMD64, not for 32-bit LSB 80386" in capsys.readouterr().err


def test_show_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", tmp_path / "none\n") == 1
    assert run("show", tmp_path) == 1
    os.mkfifo(tmp_path / "fifo")
    assert run("show", tmp_path / "fifo") == 1
    (tmp_path / "big").write_bytes(bytes(ld_config.MAX_SIZE + 1))
    assert run("show", tmp_path / "big") == 1
    assert capsys.readouterr().err.splitlines() == [
        f"memproxy-sol: {tmp_path}/none\\n: does not exist",
        f"memproxy-sol: {tmp_path}: is a directory, not a regular file",
        f"memproxy-sol: {tmp_path}/fifo: is a FIFO, not a regular file",
        f"memproxy-sol: {tmp_path}/big: has {ld_config.MAX_SIZE + 1} bytes, more than the "
        f"{ld_config.MAX_SIZE} that are read",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["look"],
        ["show"],
        ["show", "a", "b"],
        ["show", "--abi", "33", "x"],
        ["show", "--machine", "x86", "x"],
        ["encode", "--from", "x"],
        ["encode", "-o", "x"],
    ],
    ids=" ".join,
)
def test_usage(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(encode(CONFIG))
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


# encode


def test_encode_what_show_prints(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "--json", file) == 0
    (tmp_path / "json").write_text(capsys.readouterr().out)
    assert run("encode", "--from", tmp_path / "json", "--abi", "64", "-o", tmp_path / "out") == 0
    assert (tmp_path / "out").read_bytes() == file.read_bytes()
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o644
    assert capsys.readouterr() == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["json", "ld.config", "out"]


@pytest.mark.parametrize(
    ("switches", "keys", "wanted"),
    [
        (["--abi", "32"], {}, LAYOUTS["32"]),
        (["--abi", "64"], {}, LAYOUTS["64"]),
        (["--abi", "amd64"], {}, LAYOUTS["64"]),
        (["--abi", "i386"], {}, LAYOUTS["32"]),
        (["--abi", "sparc"], {}, Layout(32, "big", 2)),
        (["--abi", "sparcv9"], {}, Layout(64, "big", 43)),
        (["--abi", "32", "--machine", "sparc"], {}, Layout(32, "big", 2)),
        (["--abi", "64", "--machine", "aarch64"], {}, Layout(64, "little", 183)),
        (["--abi", "64", "--machine", "243/little"], {}, Layout(64, "little", 243)),
        ([], {"abi": 64, "byte_order": "big", "machine": "SPARCV9"}, Layout(64, "big", 43)),
        (["--abi", "64"], {"abi": 64, "byte_order": "big", "machine": "SPARCV9"}, Layout(64, "big", 43)),
    ],
)
def test_encode_for_each_abi(
    switches: list[str], keys: dict[str, object], wanted: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "json").write_text(json.dumps({**keys, "library_path": ["/a"]}))
    assert run("encode", "--from", tmp_path / "json", *switches, "-o", tmp_path / "out") == 0
    assert (tmp_path / "out").read_bytes() == encode(replace(new(wanted), library_path=("/a",)))


@pytest.mark.parametrize(
    ("switches", "text", "status", "message"),
    [
        ([], "{}", 2, "the JSON does not say which ABI the file is for; say --abi"),
        (["--abi", "32", "--machine", "aarch64"], "{}", 2, "--machine: aarch64 has no 32-bit ABI"),
        (
            ["--abi", "32", "--machine", "9000/big"],
            "{}",
            2,
            "--machine: '9000/big' is no machine; say x86, sparc, aarch64",
        ),
        (["--machine", "sparc"], "{}", 2, "--machine needs --abi 32 or --abi 64 beside it"),
        (["--abi", "i386", "--machine", "sparc"], "{}", 2, "--machine needs --abi 32 or --abi 64 beside it"),
        (["--abi", "32"], '{"abi": 64}', 1, "FILE: abi: 64 contradicts 32-bit LSB 80386, which is asked for"),
        (["--abi", "32"], "{", 1, "FILE: is no JSON: Expecting property name"),
        (["--abi", "32"], "\udcff", 1, "FILE: is no JSON: 'utf-8' codec can't decode"),
        (["--abi", "32"], "[" * 100000, 1, "FILE: is no JSON: "),
        (["--abi", "32"], "[]", 1, "FILE: JSON: is no JSON object"),
        (["--abi", "32"], '{"library_path": ["/a:/b"]}', 1, "FILE: library_path: '/a:/b' contains a colon"),
        (["--abi", "32"], '{"library_path": ["\\u0000"]}', 1, "FILE: library_path: '\\x00' contains a NUL"),
        (["--abi", "32"], '{"library_path": ["\\ud800"]}', 1, "FILE: library_path: '\\ud800' is no text"),
        (["--abi", "32"], '{"flags": 12}', 1, "FILE: flags: 0xc does not fit a 32-bit file"),
    ],
)
def test_encode_refuses(
    switches: list[str], text: str, status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert run("encode", "--from", tmp_path / "json", *switches, "-o", tmp_path / "out") == status
    assert not (tmp_path / "out").exists()
    error = capsys.readouterr().err.replace(f"{tmp_path}/json", "FILE")
    assert error.startswith(f"memproxy-sol: {message}")
    assert error.count("\n") == 1


def test_encode_replaces_only_when_told(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "json").write_text("{}")
    before = file.stat()
    assert run("encode", "--from", tmp_path / "json", "--abi", "64", "-o", file) == 1
    assert capsys.readouterr().err == f"memproxy-sol: {file}: exists; --force replaces it\n"
    assert file.read_bytes() == encode(CONFIG)
    with file.open("rb") as held:
        assert run("encode", "--from", tmp_path / "json", "--abi", "64", "--force", "-o", file) == 0
        assert held.read() == encode(CONFIG)  # who had it open still sees the whole old file
    assert file.read_bytes() == encode(new(LAYOUTS["64"]))
    assert file.stat().st_ino != before.st_ino


def test_encode_follows_a_link_and_leaves_what_is_no_file(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "json").write_text("{}")
    (tmp_path / "link").symlink_to(file.name)
    os.mkfifo(tmp_path / "fifo")
    assert run("encode", "--from", tmp_path / "json", "--abi", "64", "--force", "-o", tmp_path / "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert file.read_bytes() == encode(new(LAYOUTS["64"]))
    assert run("encode", "--from", tmp_path / "json", "--abi", "64", "--force", "-o", tmp_path / "fifo") == 1
    assert run("encode", "--from", tmp_path / "json", "--abi", "64", "-o", tmp_path / "none/out") == 1
    assert run("encode", "--from", tmp_path / "json", "--abi", "64", "-o", f"{file}/out") == 1
    assert capsys.readouterr().err.splitlines() == [
        f"memproxy-sol: {tmp_path}/fifo: is no regular file",
        f"memproxy-sol: {tmp_path}/none/out: No such file or directory",
        f"memproxy-sol: {file}/out: Not a directory",
    ]


def test_pipe_from_show_to_encode(file: Path) -> None:
    """Standard input and output, in processes of their own."""
    command = [sys.executable, "-m", "memproxy_sol", "ldconfig"]
    shown = subprocess.run([*command, "show", "--json", "-"], input=file.read_bytes(), capture_output=True, check=True)
    made = subprocess.run(
        [*command, "encode", "--from", "-", "-o", "-"], input=shown.stdout, capture_output=True, check=True
    )
    assert made.stdout == file.read_bytes()
    wrong = subprocess.run([*command, "show", "-"], input=b"?RLC", capture_output=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (1, b"")
    assert wrong.stderr.startswith(b"memproxy-sol: standard input: identification at offset 4: the file ends after 4")


def test_input_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.BytesIO(bytes(ld_config.MAX_SIZE * 2))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
    assert run("show", "-") == 1
    assert stream.tell() <= ld_config.MAX_SIZE + io.DEFAULT_BUFFER_SIZE
    assert "standard input: has more than" in capsys.readouterr().err
