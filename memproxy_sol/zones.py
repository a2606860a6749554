"""Zones: the non-global zones of a Solaris host, as its own index has them; nothing of a zone is touched.

Source: /etc/zones/index, of which zoneadm(8) `list -cp` prints the same fields: name, state, path, and more behind.
Standard library and own modules only.
"""

from __future__ import annotations

from dataclasses import dataclass

from memproxy_sol.errors import HostError
from memproxy_sol.root import Root

INDEX = "/etc/zones/index"


@dataclass(frozen=True)
class Zone:
    """One configured non-global zone."""

    name: str
    state: str
    """As the index has it: `configured`, `installed`, `incomplete`… Whether it runs is not written there."""
    path: str
    """Its zonepath."""

    @property
    def root(self) -> str:
        """Where its root directory lies in the global zone."""
        return f"{self.path}/root"


def read(root: Root) -> tuple[Zone, ...]:
    """The non-global zones of the host below `root`, in the order of the index; none where there is no index.

    HostError for an index that cannot be read.
    """
    state = root.read(INDEX)
    found = []
    for line in (state.data if state else b"").decode("utf-8", "surrogateescape").splitlines():
        fields = line.split(":")
        if line.startswith("#") or len(fields) < 3 or not fields[2].startswith("/"):
            continue
        zone = Zone(fields[0], fields[1], fields[2].rstrip("/"))
        if zone.name != "global" and zone.path:
            found.append(zone)
    return tuple(found)


def find(root: Root, name: str) -> Zone:
    """The zone of that name; HostError if there is none, or none that is installed."""
    zones = read(root)
    zone = next((zone for zone in zones if zone.name == name), None)
    if zone is None:
        names = ", ".join(zone.name for zone in zones) or "none"
        raise HostError(f"there is no zone {name}, the zones are: {names}", where=INDEX, hint="correct --zone")
    if not root.exists(zone.root):
        raise HostError(f"zone {name} ({zone.state}) has no root directory", where=zone.root, hint="install the zone")
    return zone
