"""Runs inside the system beside a workload: is memproxy-sol's table of processes what these say of themselves?

What a process says of itself is read here without the package: its maps, and the record that libmemproxy keeps in its
memory (`struct memproxy_record` of native/memproxy.h). Between two such looks `memproxy-sol verify` is asked; processes
that were the same before and after are compared. Ends when /run/end is there; writes /result/table.json.
Standard library only.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import time
from collections import Counter
from dataclasses import dataclass

END, RESULT = "/run/end", "/result/table.json"
PAUSE = 1.5
_MAGIC, _HEAD = b"memproxy", struct.Struct("<8s6I1024s")
_STATES, _ROUTES = ("start", "resolving", "ready"), ("system", "custom")


@dataclass(frozen=True)
class Own:
    """What one process says of itself."""

    started: str
    program: str
    library: str
    """The libmemproxy.so in its maps; empty without."""
    dynamic: bool
    """Whether a runtime linker of the GNU C library is in its maps."""
    route: str
    line: int
    allocator: str
    mapped: bool
    """Whether the allocator that it names is in its maps."""
    where: str = ""
    """The address of its first mapping: another one after each exec, though of the same program."""


def own(pid: int) -> Own | None:
    """What a process says; None if it ends meanwhile, is a zombie, or is on its way."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            fields = stream.read().rpartition(")")[2].split()
        program = os.readlink(f"/proc/{pid}/exe")
        with open(f"/proc/{pid}/maps") as stream:
            lines = [line.split(None, 5) for line in stream]
        files = {words[5].strip() for words in lines if len(words) == 6}
        library = next((file for file in files if file.endswith("/libmemproxy.so")), "")
        state, route, line, allocator = 0, 0, 0, ""
        for words in lines:
            if len(words) == 6 and words[5].strip() == library and words[1].startswith("rw"):
                start, end = (int(word, 16) for word in words[0].split("-"))
                with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
                    data = os.pread(memory.fileno(), end - start, start)
                at = data.find(_MAGIC)
                if at >= 0:
                    _, _, _, state, route, _, line, path = _HEAD.unpack_from(data, at)
                    allocator = path.split(b"\0", 1)[0].decode()
        if os.readlink(f"/proc/{pid}/exe") != program or fields[0] in "ZX":
            return None
    except (OSError, ValueError, struct.error):
        return None
    if not files or (library and _STATES[state] != "ready"):
        return None
    dynamic = any(os.path.basename(file).startswith("ld-linux") for file in files)
    word = _ROUTES[route] if library else ""
    # /lib is a link to /usr/lib.
    mapped = os.path.realpath(allocator) in {os.path.realpath(file) for file in files}
    return Own(fields[19], program, library, dynamic, word, line, allocator, mapped, lines[0][0])


def look() -> dict[int, Own]:
    """All processes that can be read."""
    found = {int(name): own(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    return {pid: one for pid, one in found.items() if one is not None}


def compare(before: dict[int, Own], after: dict[int, Own], table: list[dict[str, object]]) -> Counter[str]:
    """How many processes the table has as they are, by program and route; and each that it has otherwise."""
    counts: Counter[str] = Counter()
    rows = {row["pid"]: row for row in table}
    for pid, one in before.items():
        if after.get(pid) != one:
            continue
        name, row = os.path.basename(one.program), rows.get(pid)
        if row is None:
            counts[f"DISAGREES: {name} is not in the table"] += 1
            continue
        loaded = row["state"] == "loaded"
        said = (row["library"], row["route"], row["line"], row["allocator"]) if loaded else ("", "", 0, "")
        if said != (one.library, one.route, one.line, one.allocator):
            counts[f"DISAGREES: {name} is {one}, the table has {row}"] += 1
        elif loaded and not row["current"]:
            counts[f"DISAGREES: {name} has {one.library}, which the table calls a former one"] += 1
        elif one.library and not one.mapped:
            counts[f"DISAGREES: {name} names {one.allocator}, which it has not mapped"] += 1
        elif not one.library and one.dynamic and row["state"] != "unreadable":
            counts[f"DISAGREES: {name} is without libmemproxy ({row['state']})"] += 1
        else:
            allocator = os.path.basename(one.allocator)
            counts[f"{name}: {one.route}, {allocator}" if loaded else f"{name}: {row['state']}"] += 1
    return counts


def main() -> None:
    counts: Counter[str] = Counter()
    while True:
        last = os.path.exists(END)
        before = look()
        command = ["memproxy-sol", "verify", "--processes", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        after = look()
        if done.returncode != 0:
            counts[f"DISAGREES: verify ended with {done.returncode}: {(done.stderr or done.stdout)[-1000:]}"] += 1
        else:
            counts += compare(before, after, json.loads(done.stdout)["processes"]["list"])
        with open(f"{RESULT}.new", "w") as stream:
            json.dump(counts, stream)
        os.replace(f"{RESULT}.new", RESULT)
        if last:
            return
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
