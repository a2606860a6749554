"""Random exclusion lists and names, on which the readers are compared with each other and with fnmatch(3).

Half of the lists are put together from pieces of the grammar, half are mutations of the lists of the table and of the
fuzz targets' corpus. `make fuzz` runs many of them, the tests a fixed sample.
"""

from __future__ import annotations

import ctypes
import locale
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes

import tomli
from exclusion_reader import NATIVE, TABLE, Question, ask_all, expected

from memproxy_sol import exclusions

CORPUS = NATIVE / "fuzz/exclusions.corpus"
NAMES_PER_LIST = 8

_PIECES = [*"ab/*?[]!-= ", " = ", "system", "custom", *"\t\r#;\0é"]
_WEIGHTS = [9, 9, 9, 6, 3, 5, 5, 2, 3, 1, 2, 2, 1, 1, 1, 1, 1, 1, 0.3, 1]
_INSERTS = [piece.encode() for piece in _PIECES] + [
    *(b"\n", b"\r\n", b"\n\n", b"\xef\xbb\xbf", b"\xff", b"**"),
    *(b"[!", b"[a-c]", b"[]", b"a-", b"[[:alpha:]]", b" = custom\n"),
]


def seeds() -> list[Question]:
    """The lists and names of the table, and of the corpus."""
    found: list[Question] = []
    for case in tomli.loads(TABLE.read_text(encoding="utf-8"))["case"]:
        encoding = case.get("encoding", "utf-8")
        found.append((case["list"].encode(encoding), [name.encode(encoding) for name in case["decides"]]))
    for data in corpus():
        name, _, text = data.partition(b"\0")
        found.append((text, [name]))
    return found


def inputs() -> list[bytes]:
    """The same as the fuzz targets take them: a name, a null byte, a list."""
    return sorted({name + b"\0" + data for data, names in seeds() for name in names})


def corpus() -> list[bytes]:
    """What fuzzing found, few inputs that reach all that was reached; the table's are not in it."""
    return [unquote_to_bytes(line) for line in CORPUS.read_text(encoding="ascii").splitlines()]


def packed(inputs: Sequence[bytes]) -> str:
    """A corpus as text, an input a line; `corpus` reads it."""

    plain = set(range(0x21, 0x7F)) - {ord("%")}
    return "".join(
        sorted("".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in data) + "\n" for data in inputs)
    )


def random_questions(rng: random.Random, known: Sequence[Question], lists: int) -> Iterator[Question]:
    """`lists` lists with NAMES_PER_LIST names each; `known` are those to mutate."""
    for _ in range(lists):
        if rng.random() < 0.5:
            data, names = random_list(rng), []
        else:
            data, given = rng.choice(known)
            data = _mutated(rng, data)
            names = [_mutated_name(rng, rng.choice(given)) for _ in range(NAMES_PER_LIST // 2)]
        while len(names) < NAMES_PER_LIST:
            names.append(random_name(rng, data))
        yield data, names


def random_list(rng: random.Random) -> bytes:
    """A list of up to six lines, made of what is special in one."""
    lines = []
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        pieces = rng.choices(_PIECES, _WEIGHTS, k=rng.choice([1, 2, 3, 4, 6, 9, 14, 30]))
        start = rng.choice(["", "", "/", "/a/", "/b*/", " ", "a"])
        end = rng.choice(["", "", "", "/", " = system", " = custom ", " =", " = a", "\r", "  "])
        lines.append(start + "".join(pieces) + end)
    data = ("\n".join(lines) + rng.choice(["", "\n"])).encode()
    return rng.choice([b"", b"", b"", b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\n"]) + data


def random_name(rng: random.Random, data: bytes) -> bytes:
    """A name that may well match: a line of the list with its stars filled in; or any name."""
    if rng.random() < 0.7:
        rows = [row for row in data.split(b"\n") if row and b"\0" not in row]
        text = rng.choice(rows).strip() if rows else b"a"
        text = re.sub(rb"\s+=\s+\w+$", b"", text)
        text = re.sub(rb"\*", lambda _: rng.choice([b"", b"a", b"b", b"ab"]), text).replace(b"?", b"b")
        text = re.sub(rb"\[!?(.)[^]/]*\]", rb"\1", text)
        text = re.sub(rb"\s+$", b"", text)
        front = rng.choice([b"", b"", b"/a"]) if text.startswith(b"/") else rng.choice([b"", b"/", b"/a/"])
        name = front + text + rng.choice([b"", b"", b"", b"a", b"/a"])
    else:
        name = "".join(rng.choices("aabb//[]!-= é", k=rng.randint(0, 8))).encode()
        name = rng.choice([b"/", b"/", b"", b"./", b"../", b"../.././/"]) + name
    return name.replace(b"\0", b"a").replace(b"\n", b"a")


def _mutated(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        at = rng.randint(0, len(data))
        end = rng.choice([at, min(at + 1, len(data)), rng.randint(at, len(data))])
        piece = rng.choice([b"", rng.choice(_INSERTS), bytes([rng.randrange(256)]), data[at:end] * 2])
        data = data[:at] + piece + data[end:]
    return data[:2000]


def _mutated_name(rng: random.Random, name: bytes) -> bytes:
    return _mutated(rng, name).replace(b"\0", b"") if rng.random() < 0.5 else name


def differences(driver: Path, directory: Path, questions: Sequence[Question]) -> tuple[list[str], int]:
    """Where the native reader and the Python reader disagree, each as a sentence; and how many lines matched a name."""
    answers = iter(ask_all(driver, directory, questions))
    wrong, matched = [], 0
    for data, names in questions:
        lines = exclusions.parse(data)
        for name in names:
            answer, wanted = next(answers), expected(lines, name, directory)
            matched += answer != "-"
            if answer != wanted:
                wrong.append(f"list {data!r}, name {name!r}: native {answer}, Python {wanted}")
    return wrong, matched


# ---- fnmatch(3) as a third opinion on single patterns.

FNM_PATHNAME, FNM_NOESCAPE = 1, 2
_libc = ctypes.CDLL(None)


def has_another_meaning(pattern: bytes) -> bool:
    """Whether glibc's fnmatch(3) may read the pattern otherwise than docs/exclusions.md does.

    It knows classes, `[^`, and looks for the `]` beyond a `/`; what ends in `[a-` matches nothing there.
    """
    return (
        any(mark in pattern for mark in (b"[^", b"[:", b"[.", b"[="))
        or pattern.endswith(b"-")
        or re.search(rb"\[.*/.*\]", pattern) is not None
    )


def random_pattern(rng: random.Random) -> tuple[bytes, bytes]:
    """A pattern without a null byte, and a name."""
    path = rng.random() < 0.3
    letters = ["a", "b", "c", "é", "*", "?", "[", "]", "!", "-", "[a-", "[!", "\\", ".", "^", " "] + ["/"] * (3 * path)
    pattern = ("/" * path + "".join(rng.choices(letters, k=rng.randint(1, 12)))).encode().rstrip(b"/") or b"/a"
    data = random_name(rng, pattern) if rng.random() < 0.7 else "".join(rng.choices("abc-]![\\.", k=6)).encode()
    return pattern, data if path else data.replace(b"/", b"")


def fnmatch_differences(rng: random.Random, cases: int) -> tuple[list[str], int, int]:
    """Where exclusions.matches and fnmatch(3) disagree; how many patterns were compared; how many of them matched."""
    wrong, compared, matched = [], 0, 0
    former = locale.setlocale(locale.LC_ALL)
    locale.setlocale(locale.LC_ALL, "C")  # bytes, not characters
    try:
        for _ in range(cases):
            pattern, name = random_pattern(rng)
            if has_another_meaning(pattern) or (b"/" in pattern) != name.startswith(b"/"):
                continue
            compared += 1
            theirs = _libc.fnmatch(pattern, name, FNM_PATHNAME | FNM_NOESCAPE) == 0
            ours = exclusions.matches(exclusions.to_text(pattern), exclusions.to_text(name))
            matched += ours
            if theirs != ours:
                wrong.append(f"pattern {pattern!r}, name {name!r}: fnmatch {theirs}, ours {ours}")
    finally:
        locale.setlocale(locale.LC_ALL, former)
    return wrong, compared, matched
