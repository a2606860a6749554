"""preloads.py against every recording of ld.so.1, and the finer rules of reference "crle", section 5."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from recordings import FILES, LAYOUTS, LDSO, VECTORS

from memproxy_sol import preloads
from memproxy_sol.abi import ABI32, ABI64
from memproxy_sol.ld_config import LdConfig, OutsideError, Variable, decode, encode, new
from memproxy_sol.preloads import Effective, Preload, config_file, effective, loader_verdict

X86 = LAYOUTS["32"]
RECORDED = [(v["name"], abi, v["config_hex"], want) for v in VECTORS for abi, want in (v.get("ldso") or {}).items()]


def recorded(result: Effective) -> dict[str, Any]:
    """The result in the form of the recordings."""
    if result.result == "crash":
        return {"result": "crash"}
    environment = {f"replaceable {name}": value for name, value in result.replaceable.items()}
    environment.update({f"permanent {name}": value for name, value in result.permanent.items()})
    if "LD_BIND_NOW" in result.switches:
        environment["bind now"] = "1"
    return {
        "result": result.result,
        "default_dirs": list(result.library_path),
        "trusted_dirs": list(result.trusted_directories),
        "preload": [[preload.name, preload.verdict] for preload in result.preloads],
        **({"env": environment} if environment else {}),
        **({"messages": list(result.messages)} if result.messages else {}),
    }


def test_the_recordings_are_complete() -> None:
    assert len(LDSO) == 74
    assert len(RECORDED) == 462
    results = {want["result"] for *_, want in RECORDED} | {record["expect"]["result"] for record in LDSO}
    assert results == {"accepted", "corrupt", "abi mismatch", "bad version", "crash", "cannot open", preloads.NOT_READ}


@pytest.mark.parametrize("record", LDSO, ids=lambda record: record["name"])
def test_process_as_recorded(record: dict[str, Any]) -> None:
    layout = LAYOUTS[record["abi"]]
    file = record["config"]
    if file == "-":
        file = config_file(preloads.ABIS[layout.bits], record["env"], record["secure"])
    content = record["files"].get(file)
    data = None if content is None else bytes.fromhex(content)
    result = effective(data, layout, record["env"], record["secure"])
    assert recorded(result) == record["expect"]
    if data is not None:
        assert effective(decode(data), layout, record["env"], record["secure"]) == result


@pytest.mark.parametrize(("name", "abi", "content", "want"), RECORDED, ids=lambda value: str(value)[:24])
def test_file_as_recorded(name: str, abi: str, content: str, want: dict[str, Any]) -> None:
    data = bytes.fromhex(content)
    assert loader_verdict(data, LAYOUTS[abi]) == want["result"]
    assert recorded(effective(data, LAYOUTS[abi])) == want


def config(*variables: Variable, **fields: Any) -> LdConfig:
    return replace(new(X86), environment=variables or None, **fields)


def define(text: str, permanent: bool = False) -> Variable:
    name, _, value = text.partition("=")
    return Variable.define(name, value, permanent)


@pytest.mark.parametrize(
    ("environ", "secure", "wanted"),
    [
        ([], False, "/var/ld/ld.config"),
        (["LD_CONFIG=/a"], False, "/a"),
        (["LD_CONFIG=/a", "LD_CONFIG_32=/b"], False, "/b"),
        (["LD_CONFIG_64=/c"], False, "/var/ld/ld.config"),
        (["LD_CONFIG=/a", "LD_CONFIG_32="], False, "/var/ld/ld.config"),
        (["LD_CONFIG=/a", "LD_CONFIG=/b"], False, "/a"),
        (["LD_CONFIG=/a"], True, "/var/ld/ld.config"),
        (["LD_NOCONFIG=yes", "LD_CONFIG=/a"], False, None),
        (["LD_NOCONFIG=yes"], True, None),
        (["LD_NOCONFIG_64=yes"], False, "/var/ld/ld.config"),
        (["LD_NOCONFIG="], False, "/var/ld/ld.config"),
        (["LD_FLAGS=bind_now,noconfig"], False, None),
        (["LD_FLAGS=noconfig="], False, "/var/ld/ld.config"),
    ],
)
def test_which_file(environ: list[str], secure: bool, wanted: str | None) -> None:
    assert config_file(ABI32, environ, secure) == wanted


def test_which_file_by_the_executable() -> None:
    assert config_file(ABI64, {}, recorded="/opt/app/ld.config") == "/opt/app/ld.config"
    assert config_file(ABI64, {"LD_CONFIG": "/a"}, recorded="/opt/app/ld.config") == "/a"
    assert config_file(ABI64, {}) == "/var/ld/64/ld.config"


@pytest.mark.parametrize(
    ("variables", "environ", "replaceable", "permanent"),
    [
        # the last unsuffixed permanent one counts, unless there is a suffixed one, of which the first counts
        (["P:LD_PRELOAD=/1", "P:LD_PRELOAD=/2"], [], None, "/2"),
        (["P:LD_PRELOAD=/1", "P:LD_PRELOAD_32=/2", "P:LD_PRELOAD_32=/3", "P:LD_PRELOAD=/4"], [], None, "/2"),
        (["P:LD_PRELOAD_32=", "P:LD_PRELOAD=/2"], [], None, None),
        # of replaceable ones the first counts
        (["R:LD_PRELOAD=/1", "R:LD_PRELOAD=/2"], [], "/1", None),
        (["R:LD_PRELOAD=/1"], ["LD_PRELOAD=/u", "LD_PRELOAD=/v"], "/u", None),
        (["R:LD_PRELOAD_32=/1"], ["LD_PRELOAD=/u", "LD_PRELOAD_64=/v"], "/1", None),
        # a blank value is there, an empty one switches off
        (["R:LD_PRELOAD=/1"], ["LD_PRELOAD= "], None, None),
        (["R:LD_PRELOAD_32= \t/1"], [], "/1", None),
        # LD_FLAGS comes after the variables, and is replaceable whoever says it
        ([], ["LD_FLAGS=preload=/f,debug"], "/f", None),
        ([], ["LD_FLAGS=preload_32=/f,preload=/g", "LD_PRELOAD=/u"], "/f", None),
        ([], ["LD_FLAGS=preload"], None, None),
        (["P:LD_FLAGS=preload=/f"], [], "/f", None),
        (["P:LD_FLAGS=preload=/f"], ["LD_PRELOAD=/u"], "/u", None),
        (["P:LD_PRELOAD=/1", "R:LD_FLAGS=preload=/f"], [], "/f", "/1"),
        # names that are not ours
        (["R:PRELOAD=/1", "R:LD_PRELOADS=/2", "R:ld_preload=/3", "R:LD_PRELOAD_320=/4"], [], None, None),
        # switched off as a whole
        (["P:LD_PRELOAD=/1"], ["LD_NOENVCONFIG=yes"], None, None),
        (["P:LD_PRELOAD=/1"], ["LD_NOENVCONFIG_32=yes"], None, None),
        (["P:LD_PRELOAD=/1"], ["LD_NOENVCONFIG="], None, "/1"),
        (["P:LD_PRELOAD=/1", "P:LD_NOENVCONFIG=1", "P:LD_NOCONFIG=1"], [], None, "/1"),
    ],
)
def test_which_preload(
    variables: list[str], environ: list[str], replaceable: str | None, permanent: str | None
) -> None:
    value = config(*(define(text[2:], text[0] == "P") for text in variables))
    result = effective(encode(value), X86, environ)
    assert (result.replaceable.get("LD_PRELOAD"), result.permanent.get("LD_PRELOAD")) == (replaceable, permanent)
    assert result.tried == tuple(name for name in (replaceable, permanent) if name)


def test_sources_and_order_of_preloads() -> None:
    value = config(define("LD_PRELOAD_32=/p/libmemproxy.so:/p/liballoc.so", True))
    result = effective(value, X86, {"LD_PRELOAD": "/u.so b.so"}, secure=True)
    assert result.preloads == (
        Preload("/u.so", "refused", "environment"),
        Preload("b.so", "try", "environment"),
        Preload("/p/libmemproxy.so", "refused", "file"),
        Preload("/p/liballoc.so", "refused", "file"),
    )
    assert result.tried == ("b.so",)
    trusting = replace(value, trusted_directories=("/lib/secure", "/p"))
    assert effective(trusting, X86, secure=True).tried == ("/p/libmemproxy.so", "/p/liballoc.so")


@pytest.mark.parametrize("item", ["/p//x.so", "/p/../p/x.so", "/p/sub/x.so", "p/x.so", "/px.so", "./x.so"])
def test_trust_compares_text(item: str) -> None:
    value = config(define(f"LD_PRELOAD={item}"), trusted_directories=("/p", "/q/"))
    assert effective(value, X86, secure=True).tried == ()


def test_a_trusted_directory_with_a_slash_at_its_end_trusts_nothing() -> None:
    value = config(define("LD_PRELOAD=/p/x.so"), trusted_directories=("/p/",))
    assert effective(value, X86, secure=True).tried == ()


def test_the_directory_of_a_file_in_the_root() -> None:
    value = config(define("LD_PRELOAD=/x.so"), trusted_directories=("/",))
    assert effective(value, X86, secure=True).tried == ("/x.so",)


def test_permanent_switch_has_the_last_word() -> None:
    value = config(define("LD_BIND_NOW=", True))
    assert effective(value, X86, ["LD_BIND_NOW=1"]).switches == frozenset()
    value = config(define("LD_BIND_NOW=1", True))
    assert effective(value, X86, ["LD_BIND_NOW="]).switches == {"LD_BIND_NOW"}


@pytest.mark.parametrize(
    ("path", "flags", "wanted"),
    [
        ((), 8, ("/lib", "/usr/lib")),
        (("", ""), 8, ("/lib", "/usr/lib")),
        (("/a;/b", "", "/c", "/a"), 8, ("/a", "/b", "/c", "/a")),
        (("/a", "/usr/lib", "/b", "/usr/lib"), 0, ("/a", "/usr/lib", "/b", "/lib", "/usr/lib")),
        (("/usr/lib", "/lib"), 0, ("/usr/lib", "/lib")),
        (("/usr/lib", "/a"), 8, ("/usr/lib", "/a")),
        (("/usr/lib/", "/a"), 0, ("/usr/lib/", "/a")),
    ],
)
def test_directories(path: tuple[str, ...], flags: int, wanted: tuple[str, ...]) -> None:
    assert effective(config(library_path=path, flags=flags), X86).library_path == wanted


def test_directory_of_1023_bytes_is_the_longest() -> None:
    long, longer = "/" + "\u00e4" * 511, "/" + "\u00e4" * 511 + "b"
    assert effective(config(library_path=(long,)), X86).library_path == (long,)
    result = effective(config(library_path=(longer, "/b")), X86, program="ls")
    assert result.library_path == ("/b",)
    assert result.messages == (f"ld.so.1: ls: fatal: ls: {longer}:/b: path name too long",)


def test_ignored_file() -> None:
    ignored = config(library_path=("/a",), flags=9)
    for form in (ignored, encode(ignored)):
        result = effective(form, X86)
        assert (result.result, result.library_path) == ("ignored flag", ("/lib", "/usr/lib"))


def test_an_abi_alone_takes_the_machine_from_the_file() -> None:
    sparc = replace(new(preloads.Layout(64, "big", 43)), library_path=("/a",))
    for form in (sparc, encode(sparc)):
        assert effective(form, ABI64).library_path == ("/a",)
        assert effective(form, ABI32).result == "abi mismatch"
        assert effective(form, LAYOUTS["64"]).result == "abi mismatch"
    assert effective(b"", ABI64).result == "corrupt"
    assert effective(None, ABI64) == Effective(
        "cannot open", ("/lib/64", "/usr/lib/64"), ABI64.default_trusted_directories
    )


def test_two_results_compare() -> None:
    before = effective(config(define("LD_PRELOAD=/a")), X86)
    assert before == effective(encode(config(define("LD_PRELOAD=/a"), version=3)), X86)
    assert before != effective(config(define("LD_PRELOAD=/b")), X86)


@pytest.mark.parametrize("data", FILES, ids=lambda data: FILES[data][0])
def test_a_file_that_crashes_is_one_that_leads_outside(data: bytes) -> None:
    layout = FILES[data][1]
    crashes = loader_verdict(data, layout) == "crash"
    try:
        decode(data, layout=layout, mapped=True, object_cache=False)
        outside = False
    except OutsideError:
        outside = True
    except preloads.LdConfigError:
        return
    assert crashes == (outside and loader_verdict(data, layout) not in ("bad version", "corrupt"))
