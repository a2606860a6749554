"""Our entry in a configuration: put in it takes nothing from others, taken out it leaves what was there."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memproxy_sol import abi, entry, preloads
from memproxy_sol.entry import Entry
from memproxy_sol.ld_config import Variable, decode, encode, layout_for, new

GENERATION = "/usr/local/lib/memproxy/0123456789abcdef"


def ours(bits: int, replaceable: bool = False, library_path: tuple[str, ...] = ()) -> Entry:
    directory = GENERATION + abi.ABIS[bits].subdirectory
    return Entry(directory, ("libmemproxy.so", "liballoc.so"), replaceable, True, library_path)


ITEMS = st.sampled_from(["a.so", "/x/b.so", "/lib/c.so"])
VALUES = st.lists(st.tuples(ITEMS, st.sampled_from([":", " ", ": ", "::"])), max_size=3).map(
    lambda pairs: "".join(item + separator for item, separator in pairs)
)
NAMES = st.sampled_from(["LD_PRELOAD", "LD_PRELOAD_32", "LD_PRELOAD_64", "LD_BIND_NOW", "LD_LIBRARY_PATH", "FOO"])
VARIABLES = st.lists(st.builds(Variable.define, NAMES, st.none() | VALUES, st.booleans()), max_size=4).map(tuple)
PATHS = st.none() | st.lists(st.sampled_from(["/lib", "/usr/lib", "/opt", "/usr/lib/secure"]), max_size=4).map(tuple)


@given(
    st.sampled_from([32, 64]),
    VARIABLES,
    PATHS,
    PATHS,
    st.booleans(),
    st.sampled_from([(), ("/opt/new",), ("/lib", "/opt/new")]),
)
def test_put_adds_and_strip_restores_what_is_in_force(
    bits: int,
    variables: tuple[Variable, ...],
    library_path: tuple[str, ...] | None,
    trusted: tuple[str, ...] | None,
    replaceable: bool,
    added: tuple[str, ...],
) -> None:
    chosen = abi.ABIS[bits]
    layout = layout_for(abi.X86, bits)
    config = dataclasses.replace(
        new(layout), environment=variables or None, library_path=library_path, trusted_directories=trusted
    )
    before = preloads.effective(config, layout)
    put = entry.put(config, chosen, ours(bits, replaceable, added))
    assert decode(encode(put), layout=layout) == put
    after = preloads.effective(put, layout)
    theirs = [item.name for item in after.preloads if not entry.is_ours(item.name)]
    assert theirs == [item.name for item in before.preloads]
    mine = [item.name for item in after.preloads if entry.is_ours(item.name)]
    assert mine == list(ours(bits).items)
    secure = preloads.effective(put, layout, (), True)
    assert [item.verdict for item in secure.preloads if entry.is_ours(item.name)] == ["try", "try"]
    fresh = tuple(d for d in added if d not in (library_path or chosen.default_library_path))
    stripped = preloads.effective(entry.strip(put, chosen, fresh), layout)
    assert stripped.preloads == before.preloads
    assert stripped.trusted_directories == before.trusted_directories
    assert stripped.library_path == before.library_path
    if not fresh:
        assert after.library_path == before.library_path
    assert entry.generations_named(put) == (GENERATION,)
    assert entry.generations_named(entry.strip(put, chosen, fresh)) == ()


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("{o}:a", "a"),
        ("a:{o}:b c", "a:b c"),
        ("a b:{o}", "a b"),
        ("{o}", ""),
        ("{o}:{o}", ""),
        ("a", "a"),
        ("a::b", "a::b"),
        ("{o}x:a", "{o}x:a"),
        ("", ""),
    ],
)
def test_items_are_taken_out_with_one_separator_and_the_rest_is_untouched(value: str, left: str) -> None:
    mine = f"{GENERATION}/libmemproxy.so"
    marker = "{o}x" in value
    text = value.replace("{o}", "/elsewhere" if marker else mine)
    assert entry.without_items(text, entry.is_ours) == left.replace("{o}", "/elsewhere" if marker else mine)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (f"{GENERATION}/libmemproxy.so", True),
        (f"{GENERATION}/64/liballoc.so.2", True),
        ("/lib/memproxy/0123456789abcdef/x", True),
        ("/usr/local/lib/memproxy/0123456789abcde/x", False),
        ("/usr/local/lib/memproxy/0123456789ABCDEF/x", False),
        (f"{GENERATION}/32/x", False),
        ("/usr/local/lib/libmemproxy.so", False),
        ("libmemproxy.so", False),
    ],
)
def test_what_is_ours_is_told_by_its_directory(item: str, expected: bool) -> None:
    assert entry.is_ours(item) is expected


def test_a_file_from_before_lib_was_split_keeps_its_meaning() -> None:
    layout = layout_for(abi.X86, 32)
    old = dataclasses.replace(new(layout), flags=0, library_path=("/usr/lib", "/opt/lib"))
    put = entry.put(old, abi.ABI32, ours(32))
    assert put.flags & 8
    assert put.library_path == ("/lib", "/usr/lib", "/opt/lib")
    assert preloads.effective(put, layout).library_path == preloads.effective(old, layout).library_path


def variables(*texts: str) -> tuple[Variable, ...]:
    return tuple(Variable.define(*text.split("=", 1), True) for text in texts)


@pytest.mark.parametrize(
    ("before", "later", "wanted"),
    [
        ((), "LD_PRELOAD=/x/b.so", ("/x/b.so",)),
        (("LD_PRELOAD=a.so",), "LD_PRELOAD=/x/b.so", ("/x/b.so",)),
        (("LD_PRELOAD=a.so",), "", ()),
        (("LD_PRELOAD=a.so", "LD_PRELOAD_64=c.so"), "LD_PRELOAD=/x/b.so", ("c.so",)),
    ],
    ids=["added", "replaced", "removed", "displaced by their own"],
)
def test_what_others_made_of_the_plain_definition_since_is_in_force_without_ours(
    before: tuple[str, ...], later: str, wanted: tuple[str, ...]
) -> None:
    chosen, layout = abi.ABIS[64], layout_for(abi.X86, 64)
    former = dataclasses.replace(new(layout), environment=variables(*before) or None)
    put = entry.put(former, chosen, ours(64))
    rest = tuple(v for v in put.environment or () if v.name != "LD_PRELOAD")
    edited = dataclasses.replace(put, environment=(*(variables(later) if later else ()), *rest))
    stripped = entry.strip(edited, chosen, (), entry.carried(former, chosen))
    assert tuple(item.name for item in preloads.effective(stripped, layout).preloads) == wanted
