"""memproxy.toml: each key, its range, and errors that name file, line, key and the allowed values."""

from __future__ import annotations

import pytest

from memproxy_sol import policy
from memproxy_sol.errors import PolicyError
from memproxy_sol.policy import Policy


def test_an_empty_file_is_the_default() -> None:
    assert policy.parse(b"", "f") == Policy()
    assert Policy().program_path == "/usr/local/bin/memproxy-sol"


def test_every_key() -> None:
    text = b"""
bits = [64, 32]
prefix = "/opt/mp"
allocators = ["/usr/lib/a.so", "/usr/lib/64/a.so"]
secure = "system"
replaceable = true
library_path = ["/opt/lib"]
service = false
program = "/opt/mp/sbin/memproxy-sol"
"""
    assert policy.parse(text, "f") == Policy(
        bits=(32, 64),
        prefix="/opt/mp",
        allocators=("/usr/lib/a.so", "/usr/lib/64/a.so"),
        secure="system",
        replaceable=True,
        library_path=("/opt/lib",),
        service=False,
        program="/opt/mp/sbin/memproxy-sol",
    )
    fields = set(Policy.__dataclass_fields__)
    assert fields == set(policy.KEYS)


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("bits = 32", "bits", 1),
        ("\n\nbits = []", "bits", 3),
        ("bits = [16]", "bits", 1),
        ("bits = [32, 32]", "bits", 1),
        ("bits = [true]", "bits", 1),
        ('bits = ["32"]', "bits", 1),
        ("prefix = 1", "prefix", 1),
        ('prefix = "opt"', "prefix", 1),
        ('prefix = "/opt/"', "prefix", 1),
        ('prefix = "/opt//x"', "prefix", 1),
        ('prefix = "/opt/../x"', "prefix", 1),
        ('prefix = "/opt/a b"', "prefix", 1),
        ('prefix = "/opt:/x"', "prefix", 1),
        ('prefix = "/$ORIGIN"', "prefix", 1),
        ('prefix = "/opt;x"', "prefix", 1),
        ('prefix = "/opt\\nx"', "prefix", 1),
        ('allocators = "/x"', "allocators", 1),
        ('allocators = ["x"]', "allocators", 1),
        ('# c\nsecure = "no"', "secure", 2),
        ("secure = true", "secure", 1),
        ("replaceable = 1", "replaceable", 1),
        ('service = "yes"', "service", 1),
        ('library_path = [["/x"]]', "library_path", 1),
        ('"replaceable" = 1', "replaceable", 1),
        ("[replaceable]\nx = 1", "replaceable", 1),
    ],
)
def test_a_value_out_of_range_is_named_with_its_line(text: str, key: str, line: int) -> None:
    with pytest.raises(PolicyError) as caught:
        policy.parse(text.encode(), "/etc/memproxy.toml")
    message = str(caught.value)
    assert f"/etc/memproxy.toml, line {line}: {key} = " in message
    assert policy.KEYS[key][1] in message


def test_an_unknown_key_is_named_and_the_known_ones_are_listed() -> None:
    with pytest.raises(PolicyError, match=r"f, line 2: unknown key 'bit'; the keys are bits, prefix"):
        policy.parse(b"replaceable = true\nbit = [32]\n", "f")


@pytest.mark.parametrize(
    "data", [b"\xff\xfe", b"a = ", b"a = 1\na = 2\n", b"\0", b"=" * 5000, b"a = " + b"[" * 100000], ids=range(6)
)
def test_what_is_not_toml_is_said_so(data: bytes) -> None:
    with pytest.raises(PolicyError, match=r"f.*: is not"):
        policy.parse(data, "f")
