"""Rescue on Linux: what to type when programs die of what /etc/ld.so.preload names; install keeps it in /etc."""

from __future__ import annotations

from collections.abc import Mapping

from memproxy_sol.abi import LD_SO_PRELOAD
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.record import AbiRecord
from memproxy_sol.root import FileState

TEXT_PATH = "/etc/memproxy-rescue.txt"
FORMER_PATH = f"{LD_SO_PRELOAD}.before-memproxy"


def text(former: bool) -> str:
    """What to type, in ASCII; indented lines are commands. `former` is whether there was a list before us."""
    back = f"\n    cat {FORMER_PATH} > {LD_SO_PRELOAD}" if former else ""
    copy = f"\n    cp -p /mnt{FORMER_PATH} /mnt{LD_SO_PRELOAD}" if former else ""
    title = "When no program starts any more: memproxy-sol on this system"
    return f"""{title}
{"=" * len(title)}
What {LD_SO_PRELOAD} names is loaded into every program. The cure is an empty
list; an object that is merely missing is complained of and does no harm.

1. A root shell is still open
This starts no program:
    : > {LD_SO_PRELOAD}
    /bin/true{back}

2. The system does not come up
Boot rescue media, mount this system's root on /mnt, and:
    mv /mnt{LD_SO_PRELOAD} /mnt{LD_SO_PRELOAD}.broken{copy}
A static shell (busybox, sash) as init does as well: init=/bin/busybox sh

Then, once programs start again (the variable keeps memproxy-sol itself off the
allocator, should that be what is wrong):
    MEMPROXY_ROUTE=system memproxy-sol verify
    MEMPROXY_ROUTE=system memproxy-sol uninstall
"""


def wanted(facts: LinuxFacts, records: Mapping[int, AbiRecord]) -> list[tuple[str, FileState | None, str]]:
    """The files that are to be kept: path, content or None, purpose."""
    original = next((known.original for known in records.values()), None)
    content = text(original is not None).encode("ascii")
    return [
        (FORMER_PATH, original, "copy of the former list of preloads"),
        (TEXT_PATH, FileState(content, 0o644, 0, 0), "what to type when no program starts"),
    ]
