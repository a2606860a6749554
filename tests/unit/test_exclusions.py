"""The exclusion list in Python: the table that both readers share, likely mistakes, and edits."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import tomli
from hypothesis import example as hypothesis_example
from hypothesis import given, settings
from hypothesis import strategies as st

from memproxy_sol import exclusion_edit, exclusion_problems, exclusions
from memproxy_sol.errors import ExclusionError
from memproxy_sol.root import Root

DATA = Path(__file__).resolve().parents[1] / "data"
CASES = tomli.loads((DATA / "exclusions.toml").read_text(encoding="utf-8"))["case"]


def lines_of(text: str | bytes) -> tuple[exclusions.Line, ...]:
    return exclusions.parse(text.encode() if isinstance(text, str) else text)


def route_of(data: bytes, executable: str) -> str:
    return exclusions.decide(exclusions.parse(data), executable).route


# ---- Reading.


@pytest.mark.parametrize("case", CASES, ids=[case["situation"] for case in CASES])
def test_case_of_the_table(case: dict[str, object]) -> None:
    encoding = str(case.get("encoding", "utf-8"))
    lines = exclusions.parse(str(case["list"]).encode(encoding))
    assert [line.number for line in lines if not line.applies] == case.get("ignored", [])
    decides = case["decides"]
    assert isinstance(decides, dict)
    for name, answer in decides.items():
        decision = exclusions.decide(lines, exclusions.to_text(name.encode(encoding)))
        got = "-" if decision.line is None else f"{decision.route} {decision.line.number}"
        # A bare name is completed by the working directory in a process; nothing in the table depends on that.
        assert (name, got) == (name, answer)


def test_a_program_that_no_line_matches_gets_the_custom_allocator() -> None:
    decision = exclusions.decide(lines_of("foo\n"), "/usr/bin/bar")
    assert (decision.route, decision.line, decision.why) == ("custom", None, "no line matches")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("foo", "line 1 is its name: foo"),
        ("/usr/bin/foo", "line 1 is its path: /usr/bin/foo"),
        ("f*", "line 1 matches its name: f*"),
        ("/usr/*/foo", "line 1 matches its path: /usr/*/foo"),
        ("/usr/", "line 1 names a directory that it lies in: /usr/"),
    ],
)
def test_a_decision_says_why(pattern: str, why: str) -> None:
    assert exclusions.decide(lines_of(pattern), "/usr/bin/foo").why == why


def test_a_line_says_what_it_is() -> None:
    assert lines_of("# c\n  foo = custom \r\n") == (exclusions.Line(2, "foo = custom", "foo", "custom"),)


@pytest.mark.parametrize(
    ("pattern", "glob"),
    [
        ("foo", False),
        ("[", False),
        ("a[b", False),
        ("[]", False),
        ("/a[b/c]", False),
        ("[a]", True),
        ("*", True),
        ("a?", True),
    ],
)
def test_what_is_a_glob(pattern: str, glob: bool) -> None:
    assert exclusions.is_glob(pattern) is glob


@given(st.binary(max_size=200), st.binary(max_size=40))
@settings(max_examples=400, deadline=None)
@hypothesis_example(b"[\n]\n=\n= =\n/ = custom\n[!", b"/a")
def test_any_bytes_are_read_and_no_line_is_half_applied(data: bytes, name: bytes) -> None:
    lines = exclusions.parse(data)
    for line in lines:
        assert (line.route in exclusions.ROUTES) is line.applies
        assert exclusions.to_bytes(line.text) in data
    decision = exclusions.decide(lines, exclusions.to_text(name))
    assert decision.route == (decision.line.route if decision.line else "custom")
    exclusion_problems.problems(lines, ["abcdefghijklmnopq"])


def test_a_pattern_of_many_stars_takes_no_exponential_time() -> None:
    assert not exclusions.matches("*a" * 200 + "b", "/" + "a" * 250)


def test_the_template_excludes_nothing_and_its_examples_are_sound() -> None:
    assert exclusions.parse(exclusions.TEMPLATE) == ()
    examples = re.sub(rb"(?m)^#(?=[^ \n])", b"", exclusions.TEMPLATE)
    lines = exclusions.parse(examples)
    assert [line.route for line in lines] == ["system", "system", "system", "custom"]
    assert exclusion_problems.problems(lines) == ()
    assert exclusions.TEMPLATE.decode("ascii").endswith("\n")


# ---- Files.


def test_no_list(tmp_path: Path) -> None:
    assert exclusions.load(Root(str(tmp_path)), "/etc/memproxy.conf") is None


@pytest.mark.parametrize("kind", ["fifo", "directory", "device"])
def test_what_is_no_regular_file_is_an_error_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "list"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    root = Root("/" if kind == "device" else str(tmp_path))
    with pytest.raises(ExclusionError, match=r"not a regular file; an exclusion list is a regular text file"):
        exclusions.load(root, str(path) if kind == "device" else "/list")


def test_a_list_beyond_the_size_limit_is_an_error(tmp_path: Path) -> None:
    with open(tmp_path / "list", "wb") as stream:
        stream.truncate(exclusions.MAX_SIZE + 1)
    with pytest.raises(ExclusionError, match=r"has 16777217 bytes, more than the 16777216 that are read"):
        exclusions.load(Root(str(tmp_path)), "/list")


# ---- Likely mistakes.


@pytest.mark.parametrize(
    ("text", "identifier", "says"),
    [
        ("foo = sytem", "exclusions-line", "'sytem' is no route"),
        ("foo =", "exclusions-line", "no route behind the '='"),
        ("= system", "exclusions-line", "no program in front of the '='"),
        ("foo\0", "exclusions-line", "null byte"),
        ("bin/foo", "exclusions-never-matches", "does not begin with /"),
        ("/usr//foo", "exclusions-never-matches", "without //"),
        ("/usr/../foo", "exclusions-never-matches", "/../"),
        ("x[z-a]", "exclusions-never-matches", "reversed range"),
        ("x[]", "exclusions-unclosed-bracket", "never closed"),
        ("/a[b/c]", "exclusions-unclosed-bracket", "never closed"),
        ("x[^a]", "exclusions-caret", "[!...]"),
        ("x[[:alpha:]]", "exclusions-character-class", "a-z"),
        ("x\\*", "exclusions-backslash", "no escapes"),
        ('"foo"', "exclusions-quotes", "quotation marks"),
        ("foo # why", "exclusions-comment-behind", "lines of their own"),
        ("foo\rbar", "exclusions-line-ends", "carriage return"),
        ("foo=system", "exclusions-route-unread", "blanks on both sides"),
        ("foo= custom", "exclusions-route-unread", "blanks on both sides"),
    ],
)
def test_mistake_in_one_line(text: str, identifier: str, says: str) -> None:
    (problem,) = exclusion_problems.problems(lines_of(text))
    assert problem.identifier == identifier
    finding = problem.finding("/etc/memproxy.conf")
    assert finding.where == "/etc/memproxy.conf, line 1"
    assert says in str(finding)
    assert problem.hint


@pytest.mark.parametrize(
    "text",
    [
        "foo",
        "/usr/bin/foo",
        "/opt/",
        "/",
        "*",
        "f*o",
        "[",
        "/usr/bin/[",
        "[a-z]*",
        "[!a]",
        "x[]a]",
        "a = custom",
        "a b",
        "x=y",
    ],
)
def test_no_mistake(text: str) -> None:
    assert exclusion_problems.problems(lines_of(text), ["foo", "bar"]) == ()


@pytest.mark.parametrize(
    ("text", "identifier", "decider"),
    [
        ("foo\nfoo\n", "exclusions-duplicate", 1),
        ("foo\n\nfoo = custom\n", "exclusions-never-reached", 1),
        ("*\nfoo = custom\n", "exclusions-never-reached", 1),
        ("f*\nfoo\n", "exclusions-duplicate", 1),
        ("foo\n/usr/bin/foo = custom\n", "exclusions-never-reached", 1),
        ("/opt/\n/opt/a/b = custom\n", "exclusions-never-reached", 1),
        ("/opt/\n/opt/a/ = custom\n", "exclusions-never-reached", 1),
        ("/\n/opt/*/x\n", "exclusions-duplicate", 1),
        ("x\n/opt/*/foo = custom\n/opt/a/foo\n", "exclusions-never-reached", 2),
    ],
)
def test_a_line_that_is_never_reached(text: str, identifier: str, decider: int) -> None:
    (problem,) = exclusion_problems.problems(lines_of(text))
    assert problem.identifier == identifier
    assert problem.line == lines_of(text)[-1]
    assert f"line {decider} " in problem.text


@pytest.mark.parametrize(
    "text", ["/opt/a/\n/opt/\n", "foo\nf*\n", "/usr/bin/foo\nfoo\n", "foo = x\nfoo\n", "/opt/\nopt\n"]
)
def test_a_narrow_line_in_front_of_a_wide_one_is_no_mistake(text: str) -> None:
    found = exclusion_problems.problems(lines_of(text))
    assert [problem for problem in found if problem.identifier != "exclusions-line"] == []


@pytest.mark.parametrize(
    ("name", "warned"),
    [("abcdefghijklmno", True), ("abcdefghijklmnop", True), ("abcdefghijklmn", False), ("abcdefghijklmnopq", False)],
)
def test_a_name_cut_at_15_or_16_characters(name: str, warned: bool) -> None:
    found = exclusion_problems.problems(lines_of(name), ["abcdefghijklmnopqr", "zzz", "abcdefghijklm"])
    assert [problem.identifier for problem in found] == (["exclusions-cut-name"] if warned else [])
    assert all("abcdefghijklmnopqr" in problem.text for problem in found)


def test_a_name_of_16_characters_that_is_installed_is_not_cut() -> None:
    assert exclusion_problems.problems(lines_of("abcdefghijklmnop"), ["abcdefghijklmnopq", "abcdefghijklmnop"]) == ()


def test_a_path_that_the_system_reports_otherwise() -> None:
    reported = {"/bin/sh": "/usr/bin/dash", "/lib": "/usr/lib"}
    found = exclusion_problems.problems(lines_of("/bin/sh\n/lib/\n/opt/x\n"), (), lambda path: reported.get(path, path))
    assert [(p.line.number, p.identifier, p.hint) for p in found] == [
        (1, "exclusions-never-matches", "write /usr/bin/dash"),
        (2, "exclusions-never-matches", "write /usr/lib/"),
    ]


def test_problems_of_a_long_list_are_found_in_bearable_time() -> None:
    text = "".join(f"name{i}\n/opt/{i}/bin/x\nglob{i}*\n" for i in range(5_000))
    assert exclusion_problems.problems(lines_of(text), [f"n{i}" for i in range(3000)]) == ()


# ---- Edits.


NAMES = st.text(
    st.sampled_from("ab*?[]!-=#; \t\r\nöß\udcff") | st.characters(min_codepoint=33, max_codepoint=126),
    min_size=1,
    max_size=12,
).filter(lambda name: "/" not in name)


@given(NAMES, st.sampled_from(exclusions.ROUTES))
@settings(max_examples=600, deadline=None)
@hypothesis_example("a = custom", "custom")
@hypothesis_example(" = system", "system")
@hypothesis_example("=", "system")
@hypothesis_example("[", "system")
@hypothesis_example("#!", "custom")
@hypothesis_example("a = b = c", "system")
def test_a_quoted_name_matches_itself_and_nothing_else(name: str, route: str) -> None:
    pattern = exclusion_edit.quote(name)
    text = exclusion_edit.format_line(pattern, route)
    (line,) = exclusions.parse(exclusions.to_bytes(text) + b"\n")
    assert (line.pattern, line.route) == (pattern, route)
    assert exclusions.matches(line.pattern, "/x/" + name)
    for other in (name + "x", "x" + name, name[1:], name[:-1] + "\x01"):
        # A line break can be written as ? only.
        assert other == name or not exclusions.matches(line.pattern, "/x/" + other) or "\n" in name


PATTERNS = st.text(st.sampled_from("ab*?[]!-/"), min_size=1, max_size=9)


@given(PATTERNS)
@settings(max_examples=500, deadline=None)
def test_an_example_of_a_pattern_matches_it(pattern: str) -> None:
    if exclusion_problems.problems(lines_of(pattern)):
        return
    sample = exclusion_edit.example(pattern)
    assert exclusions.matches(pattern, sample) or sample == ""


LISTS = st.lists(
    st.sampled_from(
        ["a", "b = custom", "*", "* = custom", "a*", "/x/", "/x/ = custom", "/x/a", "#c", "", "a = zz", "a = custom"]
    ),
    max_size=6,
).map("\n".join)


@given(LISTS, st.sampled_from(["a", "/x/a", "/x/b", "b"]), st.sampled_from(exclusions.ROUTES), st.booleans())
@settings(max_examples=800, deadline=None)
def test_what_is_added_decides_and_the_rest_stays(text: str, program: str, route: str, ended: bool) -> None:
    data = (text + ("\n" if ended and text else "")).encode()
    addition = exclusion_edit.added(data, program, route)
    assert route_of(addition.data, program) == route
    after = exclusions.parse(addition.data)
    decision = exclusions.decide(after, program)
    assert decision.line == addition.line
    if addition.existing:
        assert addition.data == data
    before_rows = data.decode().split("\n")
    after_rows = addition.data.decode().split("\n")
    if not addition.existing and addition.replaced is None:
        del after_rows[addition.line.number - 1]
        assert [row for row in after_rows if row] == [row for row in before_rows if row]
    # Once more changes nothing.
    again = exclusion_edit.added(addition.data, program, route)
    assert (again.data, again.existing, again.line) == (addition.data, True, addition.line)


def test_added_at_the_end_with_comments_kept() -> None:
    addition = exclusion_edit.added(b"# mine\n\na\n; last", "b", "system")
    assert addition.data == b"# mine\n\na\n; last\nb\n"
    assert (addition.line.number, addition.existing, addition.ahead_of) == (5, False, None)


def test_added_in_front_of_what_would_match_first() -> None:
    addition = exclusion_edit.added(b"# all others\n* = custom\n", "b", "system")
    assert addition.data == b"# all others\nb\n* = custom\n"
    assert addition.ahead_of is not None
    assert addition.ahead_of.text == "* = custom"


def test_added_in_place_of_the_same_program_with_another_route() -> None:
    addition = exclusion_edit.added(b"a\nb\nc\n", "b", "custom")
    assert addition.data == b"a\nb = custom\nc\n"
    assert addition.replaced is not None


def test_a_directory_is_not_taken_for_added_because_a_program_in_it_is() -> None:
    addition = exclusion_edit.added(b"/opt/~\n/opt/[!0-9]*\n", "/opt/", "system")
    assert addition.data.endswith(b"/opt/\n")
    covered = exclusion_edit.added(b"/opt/\n", "/opt/app/", "system")
    assert covered.existing


def test_a_narrower_glob_does_not_hide_a_catch_all() -> None:
    addition = exclusion_edit.added(b"w*[!0-9]\n* = custom\n", "w*", "system")
    assert addition.data == b"w*[!0-9]\nw*\n* = custom\n"


def test_added_to_a_list_with_crlf_and_byte_order_mark() -> None:
    addition = exclusion_edit.added(b"\xef\xbb\xbf* = custom\r\n", "b", "system")
    assert addition.data == b"\xef\xbb\xbfb\r\n* = custom\r\n"
    assert exclusion_edit.added(b"", "b", "system").data == b"b\n"


@pytest.mark.parametrize("pattern", ["#foo", "", " a", "a ", "a\nb", "a = b", "a\0b", "=x = custom"])
def test_a_pattern_that_no_line_can_hold_is_an_error(pattern: str) -> None:
    with pytest.raises(ExclusionError, match="cannot stand in an exclusion list"):
        exclusion_edit.added(b"", pattern, "system")


def test_removed_are_exactly_the_lines_of_the_pattern() -> None:
    data = b"# a\na\r\nab\na = custom\na = sytem\n*a"
    removal = exclusion_edit.removed(data, {"a"})
    assert removal.data == b"# a\nab\n*a"
    assert [line.number for line in removal.lines] == [2, 4, 5]
    assert exclusion_edit.removed(data, {"b"}) == exclusion_edit.Removal(data, ())
    assert exclusion_edit.removed(b"\xef\xbb\xbfa\nb\n", {"a"}).data == b"\xef\xbb\xbfb\n"
