"""/etc/ld.so.preload in every state: what is read, what stays of others' bytes when ours come and go."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from memproxy_sol import ld_so_preload
from memproxy_sol.errors import PreloadFileError
from memproxy_sol.ld_so_preload import expand, generations_named, is_ours, parse, put, strip
from tests.preload_files import GENERATION, OURS, OURS_TOO, STATES, A, B, State

ITEMS = (OURS.decode(), OURS_TOO.decode())
EITHER = pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
BYTES = st.lists(
    st.sampled_from(
        [b"\n", b"\n", b" ", b"\t", b":", b"#", b"\r", b"\0", b"x", b"/x/y.so", b"\xe9", A, OURS, OURS_TOO]
    ),
    max_size=12,
).map(b"".join)
OTHERS = BYTES.filter(lambda data: not any(is_ours(item.text) for item in parse(data)))


def texts(data: bytes) -> list[str]:
    return [item.text for item in parse(data)]


def test_the_states_have_names_of_their_own_and_are_more_than_38() -> None:
    assert len({state.name for state in STATES}) == len(STATES) > 38


@EITHER
def test_a_file_is_read_as_the_runtime_linker_reads_it(state: State) -> None:
    items = parse(state.data)
    assert [item.text.encode("utf-8", "surrogateescape") for item in items] == state.items
    assert [state.data[item.start : item.end] for item in items] == state.items


@EITHER
def test_others_items_stay_when_ours_come_or_the_file_is_refused(state: State) -> None:
    before = texts(state.data)
    if state.name in REFUSED:
        with pytest.raises(PreloadFileError) as caught:
            put(state.data, ITEMS)
        assert caught.value.where == ld_so_preload.PATH
        assert caught.value.hint
        return
    changed = put(state.data, ITEMS)
    assert texts(changed) == before + [item for item in ITEMS if item not in before]
    assert changed.startswith(state.data)
    assert put(changed, ITEMS) == changed


REFUSED = {
    "UTF-16", "NUL between items", "NUL in a line of its own", "NUL, no newline at the end", "NUL in the last item",
    "NUL at the very end", "NUL first", "only NUL bytes", "an executable's first bytes", "ours behind a NUL",
    "a second comment too late in the file", "commented out, but too late in the file",
    "a comment that counts in part",
}  # fmt: skip


@EITHER
def test_only_ours_go_and_what_others_commented_out_stays_so(state: State) -> None:
    stripped = strip(state.data, is_ours)
    assert texts(stripped) == [text for text in texts(state.data) if not is_ours(text)]
    if not any(is_ours(text) for text in texts(state.data)):
        assert stripped == state.data


@pytest.mark.parametrize(
    ("data", "left"),
    [
        (OURS + b"\n", b""),
        (OURS, b""),
        (A + b"\n" + OURS + b" " + OURS_TOO + b"\n", A + b"\n"),
        (A + b"\n" + OURS, A + b"\n"),
        (A + b"\n " + OURS + b"\n", A),
        (A + b"\n " + OURS + b"\n" + B + b"\n", A + b"\n" + B + b"\n"),
        (A + b"\n\n" + OURS + b"\n\n" + B + b"\n", A + b"\n\n\n" + B + b"\n"),
        (OURS + b":" + A + b"\n", A + b"\n"),
        (A + b":" + OURS + b"\n", A + b"\n"),
        (A + b":" + OURS + b":" + B, A + b":" + B),
        (A + b" \t" + OURS + b" \t" + B, A + b" \t\t" + B),
        (OURS + b" # memory\n" + A + b"\n", b"# memory\n" + A + b"\n"),
        (A + b" " + OURS + b"# memory\n", A + b"# memory\n"),
        (A + b"\r\n" + OURS + b"\r\n", A + b"\r\n"),
        (b"# one\n" + OURS + b"\n" + A + b"\n" + OURS + b"\n", b"# one\n" + A + b"\n"),
        (b"#" + OURS + b"\n" + OURS + b"\n", b"#" + OURS + b"\n"),
        (b"\xef\xbb\xbf" + OURS + b"\n" + A, A),
    ],
    ids=[
        "a line of its own", "no newline", "two in the last line", "last, others' newline stays",
        "last, the newline before it was ours", "the newline before it is others' by now", "blank lines around",
        "first of a line", "last of a line", "amid a line", "more blanks than needed", "comment behind",
        "comment touching", "CR/LF", "twice, the comment stays", "commented out", "byte order mark",
    ],
)  # fmt: skip
def test_of_others_bytes_none_is_lost_but_one_separator(data: bytes, left: bytes) -> None:
    assert strip(data, is_ours) == left


def test_blanks_stand_for_ours_where_a_shorter_file_would_wake_what_is_commented_out() -> None:
    awake = A + b"\n# 1\n# " + B + b"\n"
    assert texts(awake) == [A.decode(), "#", B.decode()]
    asleep = awake + OURS + b"\n"
    assert texts(asleep) == [A.decode(), OURS.decode()]
    assert strip(asleep, is_ours) == awake + b" " * len(OURS) + b"\n"
    assert texts(strip(asleep, is_ours)) == [A.decode()]
    with pytest.raises(PreloadFileError, match=r"as part of a comment when the file gets longer"):
        put(awake, ITEMS)


@pytest.mark.parametrize("item", ["", "/a b", "/a:b", "/a\nb", "/a\tb", "/a\rb", "/a#b", "/a\0b", "/a\vb"], ids=repr)
def test_what_cannot_be_an_item_is_refused(item: str) -> None:
    with pytest.raises(PreloadFileError, match="cannot be an item"):
        put(b"", [item])


def test_what_is_there_already_is_not_added_again() -> None:
    assert put(A + b"\n" + OURS + b"\n" + B + b"\n", ITEMS) == A + b"\n" + OURS + b"\n" + B + b"\n" + OURS_TOO + b"\n"
    assert put(b"", [ITEMS[0], ITEMS[0]]) == OURS + b"\n"


@given(OTHERS)
def test_put_in_and_taken_out_again_the_file_is_as_it_was(data: bytes) -> None:
    try:
        changed = put(data, ITEMS)
    except PreloadFileError:
        assume(False)
        return
    assert strip(changed, is_ours) == data


@given(OTHERS.filter(lambda data: b"\0" not in data and data.count(b"#") < 2))
def test_a_file_without_nul_and_with_one_comment_at_most_takes_ours(data: bytes) -> None:
    assert strip(put(data, ITEMS), is_ours) == data


@given(BYTES)
def test_whatever_stands_in_the_file_only_ours_go(data: bytes) -> None:
    stripped = strip(data, is_ours)
    assert texts(stripped) == [text for text in texts(data) if not is_ours(text)]
    assert len(stripped) <= len(data)


@given(st.binary(max_size=60) | BYTES)
def test_items_lie_where_they_are_said_to_in_order(data: bytes) -> None:
    end = 0
    for item in parse(data):
        assert end <= item.start < item.end <= len(data)
        assert data[item.start : item.end].decode("utf-8", "surrogateescape") == item.text
        end = item.end


@pytest.mark.parametrize(
    ("item", "path"),
    [
        ("/g/$LIB/a.so", "/g/lib/x86_64-linux-gnu/a.so"),
        ("/g/${LIB}/a.so", "/g/lib/x86_64-linux-gnu/a.so"),
        ("/g/pre$LIB-x/$LIB", "/g/prelib/x86_64-linux-gnu-x/lib/x86_64-linux-gnu"),
        ("/g/$LIBX/a.so", "/g/$LIBX/a.so"),
        ("/g/$LIB_/a.so", "/g/$LIB_/a.so"),
        ("/g/$LIB9", "/g/$LIB9"),
        ("/g/$LIBé", "/g/lib/x86_64-linux-gnué"),
        ("/g/${LIB", "/g/${LIB"),
        ("/g/${LIBX}", "/g/${LIBX}"),
        ("/g/$lib", "/g/$lib"),
        ("/g/$", "/g/$"),
        ("/g/$$LIB", "/g/$lib/x86_64-linux-gnu"),
        ("$ORIGIN/a.so", "/opt/bin/a.so"),
        ("/g/$PLATFORM/a.so", "/g/haswell/a.so"),
        ("x/a.so", "x/a.so"),
        ("$LIB", None),
        ("liba.so", None),
        ("/g/a\\$LIB", "/g/a\\lib/x86_64-linux-gnu"),
    ],
)
def test_tokens(item: str, path: str | None) -> None:
    assert expand(item, "lib/x86_64-linux-gnu", "/opt/bin", "haswell") == path


def test_the_token_of_a_program_leads_nowhere_where_the_program_is_not_known() -> None:
    assert expand("$ORIGIN/a.so", "lib", None, "i686") is None
    assert expand("/g/$LIB/a.so", "lib", None, "i686") == "/g/lib/a.so"


@pytest.mark.parametrize(
    ("item", "ours"),
    [
        (ITEMS[0], True),
        (ITEMS[1], True),
        (f"/opt/x/lib/memproxy/{'0' * 16}/$LIB/liballoc.so", True),
        (ITEMS[0] + "\r", True),
        ("\ufeff" + ITEMS[0], True),
        (f"{GENERATION}/lib64/libmemproxy.so", False),
        (f"{GENERATION}/$LIB/", False),
        (f"{GENERATION}/$LIB/a/b.so", False),
        (f"{GENERATION}0/$LIB/libmemproxy.so", False),
        ("/usr/local/lib/memproxy/$LIB/libmemproxy.so", False),
        ("/usr/local/$LIB/libmemproxy.so", False),
        ("libmemproxy.so", False),
        (ITEMS[0][1:], False),
    ],
)
def test_ours_lie_in_a_generation(item: str, ours: bool) -> None:
    assert is_ours(item) is ours


def test_generations_are_named_once_in_order_in_comments_too() -> None:
    other = GENERATION.replace("0", "f")
    data = f"# {other}/$LIB/x\n".encode() + OURS + b":" + OURS_TOO + b"\n" + A + b"\n"
    assert generations_named(data) == (other, GENERATION)
    assert generations_named(b"\xff\n" + A) == ()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (GENERATION.encode(), (GENERATION,)),
        (b"x" + GENERATION.encode(), (GENERATION,)),
        (b"//" + GENERATION.encode(), (GENERATION,)),
        (b"/opt/" + GENERATION.encode(), (GENERATION,)),
        (b"\0" + GENERATION.encode() + b"\0", (GENERATION,)),
        (b"#" + OURS + b"\r\n", (GENERATION,)),
        (GENERATION.encode()[:-1] + b"\n", ()),
        (b"/caf\xe9/lib/memproxy/" + b"0" * 16, ("/caf\udce9/lib/memproxy/" + "0" * 16,)),
        (b"/lib/memproxy/" + b"0" * 16, ("/lib/memproxy/" + "0" * 16,)),
        (b"/a" * (1 << 20) + b"\n" + OURS, (GENERATION,)),
    ],
    ids=lambda value: None if len(value) < 200 else "a hostile megabyte",
)
def test_a_generation_is_found_wherever_it_is_named(data: bytes, named: tuple[str, ...]) -> None:
    assert generations_named(data) == named
