"""Bypass: the environment in which one command, and all that it starts, does without the proxy.

Sources: ld.so.1(1) and reference "crle", sections 5.1 and 5.5, for the two variables of Solaris; docs/native.md for
MEMPROXY_ROUTE.
"""

from __future__ import annotations

import sys

from memproxy_sol import preloads
from memproxy_sol.abi import ABIS
from memproxy_sol.errors import HostError, LdConfigError
from memproxy_sol.root import Root

ROUTE = "MEMPROXY_ROUTE"
NO_VARIABLES = "LD_NOENVCONFIG"
"""Keeps the runtime linker from the variables of its configuration; search path and trusted directories stay."""
NO_FILE = "LD_NOCONFIG"
"""Keeps it from the whole file."""


def environment(root: Root, platform: str = sys.platform) -> dict[str, str]:
    """What is to be set for a command on `platform` that is to do without the proxy.

    On Solaris the preload of the configuration is switched off, for set-id programs as well: with the variables of the
    file alone, so that the search path of others stays, unless a file is one that the runtime linker dies of or that
    cannot be read here. A libmemproxy that comes in otherwise (`memproxy-sol run`), and any on Linux, is sent to the
    system allocator; secure processes do not obey that.
    """
    found = {ROUTE: "system"}
    if platform.startswith("sunos"):
        found[NO_FILE if _is_beyond_use(root) else NO_VARIABLES] = "yes"
    return found


def _is_beyond_use(root: Root) -> bool:
    for abi in ABIS.values():
        try:
            state = root.read(abi.config_path)
            if state is not None and preloads.effective(state.data, abi).result == preloads.CRASH:
                return True
        except (HostError, LdConfigError):
            return True
    return False
