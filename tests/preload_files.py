"""States of /etc/ld.so.preload, each with what the C library makes of it: one table for the parser and the loaders.

The lengths matter: how much of a comment counts depends on where it stands in the file. So the items have one short
place, whatever the machine: `A`, `B` and `C` are for both ABIs, below a directory that the tests mount for themselves.
"""

from __future__ import annotations

from typing import NamedTuple

PLACE = "/mnt/g"
A, B, C = (f"{PLACE}/$LIB/{name}.so".encode() for name in "abc")
A_TOO = f"{PLACE}/./$LIB/a.so".encode()
GENERATION = "/usr/local/lib/memproxy/0123456789abcdef"
OURS = f"{GENERATION}/$LIB/libmemproxy.so".encode()
OURS_TOO = f"{GENERATION}/${{LIB}}/libjemalloc.so.2".encode()


class State(NamedTuple):
    """One state of the file."""

    name: str
    data: bytes
    items: list[bytes]
    """In the order in which they are loaded, or complained of."""


STATES = [
    State("empty", b"", []),
    State("one newline", b"\n", []),
    State("one colon", b":", []),
    State("blanks, tabs, colons and newlines only", b" \t:\n\n : \t\n", []),
    State("one item", A + b"\n", [A]),
    State("no newline at the end", A, [A]),
    State("a blank behind the last item", A + b" ", [A]),
    State("a tab behind the last item", A + b"\t", [A]),
    State("a colon behind the last item", A + b":", [A]),
    State("a colon before the first item", b":" + A, [A]),
    State("two lines", A + b"\n" + B + b"\n", [A, B]),
    State("two lines, no newline at the end", A + b"\n" + B, [A, B]),
    State("separated by a blank", A + b" " + B + b"\n", [A, B]),
    State("separated by a tab", A + b"\t" + B + b"\n", [A, B]),
    State("separated by a colon", A + b":" + B + b"\n", [A, B]),
    State("separated by many of each", b"\n:" + A + b" :\t:\n\n" + B + b" \t\n:", [A, B]),
    State("three in an order of their own", C + b"\n" + A + b" " + B + b"\n", [C, A, B]),
    State("CR/LF", A + b"\r\n" + B + b"\r\n", [A + b"\r", B + b"\r"]),
    State("CR/LF but for the last line", A + b"\r\n" + B, [A + b"\r", B]),
    State("CR alone", A + b"\r" + B + b"\r", [A + b"\r" + B + b"\r"]),
    State("vertical tab", A + b"\v" + B + b"\n", [A + b"\v" + B]),
    State("form feed", A + b"\f" + B + b"\n", [A + b"\f" + B]),
    State("comma and semicolon", A + b"," + B + b";\n", [A + b"," + B + b";"]),
    State("quoted", b'"' + A + b'"\n', [b'"' + A + b'"']),
    State("escaped blank", b"/mnt/x\\ y.so\n", [b"/mnt/x\\", b"y.so"]),
    State("byte order mark", b"\xef\xbb\xbf" + A + b"\n" + B + b"\n", [b"\xef\xbb\xbf" + A, B]),
    State("UTF-16", "/mnt/x.so\n".encode("utf-16"), [b"\xff\xfe/"]),
    State("latin-1", b"/mnt/caf\xe9.so\n" + A + b"\n", [b"/mnt/caf\xe9.so", A]),
    State("UTF-8", "/mnt/é.so\n".encode() + A + b"\n", ["/mnt/é.so".encode(), A]),
    State("NUL between items", A + b"\0" + B + b"\n" + C + b"\n", [A]),
    State("NUL in a line of its own", A + b"\n\0\n" + B + b"\n", [A]),
    State("NUL, no newline at the end", A + b"\n\0\n" + B + b"\n" + C, [A, C]),
    State("NUL in the last item", A + b"\n" + B + b"\0" + C, [A, B]),
    State("NUL at the very end", A + b"\n\0", [A]),
    State("NUL first", b"\0" + A + b"\n", []),
    State("NUL in a comment", b"# \0\n" + A + b"\n", [A]),
    State("only NUL bytes", b"\0" * 4096, []),
    State("comment first", b"# why\n" + A + b"\n", [A]),
    State("comment last", A + b"\n# why\n", [A]),
    State("comment last, no newline", A + b"\n# why", [A]),
    State("comment only", b"# nothing\n", []),
    State("comment only, no newline", b"#", []),
    State("comment behind an item", A + b" # why\n" + B + b"\n", [A, B]),
    State("comment touching an item", A + b"#why\n" + B + b"\n", [A, B]),
    State("comment with CR/LF", b"# why\r\n" + A + b"\n", [A]),
    State("comment ended by a CR only", b"# why\r" + A + b"\n", []),
    State("item commented out", b"#" + A + b"\n" + B + b"\n", [B]),
    State("last item commented out", A + b"\n#" + B + b"\n", [A]),
    State("two comments early in a long file", b"# 1\n# 2\n" + A + b"\n" + B + b"\n", [A, B]),
    State("a second comment too late in the file", A + b"\n# 1\n# 2\n", [A, b"#", b"2"]),
    State("commented out, but too late in the file", A + b"\n# 1\n# " + B + b"\n", [A, b"#", B]),
    State("a comment that counts in part", b"# 1\n# 2\n# " + B + b"\n", [b"$LIB/b.so"]),
    State("twice the same", A + b"\n" + A + b"\n", [A, A]),
    State("the same by two names", A + b"\n" + A_TOO + b"\n", [A, A_TOO]),
    State("missing between two", A + b"\n/mnt/g/none.so\n" + B + b"\n", [A, b"/mnt/g/none.so", B]),
    State("garbage", bytes(range(1, 32)) + b"\xff", [bytes(range(1, 9)), bytes(range(11, 32)) + b"\xff"]),
    State("an executable's first bytes", b"\x7fELF\x02\x01\x01\0\0\0", [b"\x7fELF\x02\x01\x01"]),
    State("token in braces", f"{PLACE}/${{LIB}}/a.so\n".encode(), [f"{PLACE}/${{LIB}}/a.so".encode()]),
    State("token that goes on", f"{PLACE}/$LIBX/a.so\n".encode(), [f"{PLACE}/$LIBX/a.so".encode()]),
    State("brace never closed", f"{PLACE}/${{LIB/a.so\n".encode(), [f"{PLACE}/${{LIB/a.so".encode()]),
    State("token unknown", f"{PLACE}/$WHERE/a.so\n".encode(), [f"{PLACE}/$WHERE/a.so".encode()]),
    State("token of the program", b"$ORIGIN/x.so\n", [b"$ORIGIN/x.so"]),
    State("token of the machine", b"/mnt/g/$PLATFORM/x.so\n", [b"/mnt/g/$PLATFORM/x.so"]),
    State("token, no slash", b"$LIB\n", [b"$LIB"]),
    State("bare name", b"libnone.so\n" + A + b"\n", [b"libnone.so", A]),
    State("relative name", b"none/x.so\n" + A + b"\n", [b"none/x.so", A]),
    State("a directory as item", b"/mnt\n" + A + b"\n", [b"/mnt", A]),
    State("a page to the byte", (A + b"\n").ljust(4096, b" "), [A]),
    State("a page to the byte, no newline", A.rjust(4096, b" "), [A]),
    State("a name longer than any", b"/" + b"x" * 5000 + b"\n" + A + b"\n", [b"/" + b"x" * 5000, A]),
    State("a thousand times the same", (A + b"\n") * 1000, [A] * 1000),
    State("a megabyte of newlines", b"\n" * (1 << 20) + A, [A]),
    State("a megabyte of comment", b"#" * (1 << 20) + b"\n" + A + b"\n", [A]),
    State("ours", OURS + b"\n", [OURS]),
    State("ours before others", OURS + b" " + OURS_TOO + b"\n" + A + b"\n", [OURS, OURS_TOO, A]),
    State("ours after others", A + b"\n" + OURS + b" " + OURS_TOO + b"\n", [A, OURS, OURS_TOO]),
    State("ours between others", A + b"\n" + OURS + b"\n" + B + b"\n", [A, OURS, B]),
    State("ours in others' line", A + b":" + OURS + b":" + B + b"\n", [A, OURS, B]),
    State("ours twice", OURS + b"\n" + A + b"\n" + OURS + b"\n", [OURS, A, OURS]),
    State("ours commented out", b"#" + OURS + b"\n" + A + b"\n", [A]),
    State("ours with CR/LF", A + b"\r\n" + OURS + b"\r\n", [A + b"\r", OURS + b"\r"]),
    State("ours behind a byte order mark", b"\xef\xbb\xbf" + OURS + b"\n", [b"\xef\xbb\xbf" + OURS]),
    State("ours behind a NUL", A + b"\n\0\n" + OURS + b"\n", [A]),
    State("ours and a comment", OURS + b" # memory\n" + A + b"\n", [OURS, A]),
    State("ours last, no newline", A + b"\n" + OURS, [A, OURS]),
]  # fmt: skip
