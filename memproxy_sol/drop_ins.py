"""Drop-ins: what gives single services of systemd libmemproxy, and what of theirs stands in the way (systemd.unit(5)).

Standard library and own modules only: verify_linux.py imports this at boot.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Sequence

from memproxy_sol.errors import HostError
from memproxy_sol.findings import ERROR, WARNING, Finding
from memproxy_sol.generation import NAMED
from memproxy_sol.root import Root

UNIT_DIRECTORIES = (
    *("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"),
    *("/usr/lib/systemd/system", "/lib/systemd/system"),
)
"""Where units and their drop-ins lie, besides those that programs make."""
_ENVIRONMENT_FILE = re.compile(rb"^\s*EnvironmentFile\s*=\s*-?(/\S+)", re.MULTILINE)
_NOTHING = re.compile(rb"(?:#[^\n]*|\[Service\]\s*|\s*)(?:\n|$)")


def path_of(service: str) -> str:
    """The drop-in of a service that is ours as a whole."""
    return f"/etc/systemd/system/{service}.d/memproxy.conf"


def is_drop_in(path: str) -> bool:
    """Whether a path is that of one of our drop-ins."""
    return path.startswith("/etc/systemd/system/") and path.endswith(".service.d/memproxy.conf")


def content(items: Sequence[str]) -> bytes:
    """Its content. LD_PRELOAD knows `$LIB` as the list does; what the service starts inherits it, set-id excepted."""
    return f'# by memproxy-sol\n[Service]\nEnvironment="LD_PRELOAD={":".join(items)}"\n'.encode()


def without_ours(data: bytes) -> bytes | None:
    """A drop-in that somebody has edited less the lines that name a generation; None where nothing is left in it."""
    lines = data.splitlines(keepends=True)
    kept = [line for line in lines if not (b"LD_PRELOAD" in line and NAMED.search(line[:4096]))]
    return None if all(_NOTHING.fullmatch(line) for line in kept) else b"".join(kept)


def naming(root: Root, directory: str, but: Container[str]) -> str | None:
    """A unit or drop-in of this system that names a generation, `but` for these; None if there is none."""
    wanted = os.fsencode(directory)
    return next((path for path in _files(root) if path not in but and wanted in _data(root, path)), None)


def obstacles(root: Root, service: str) -> Iterator[Finding]:
    """What keeps a service from getting an LD_PRELOAD of ours, as far as files tell."""
    units = list(dict.fromkeys((service, re.sub(r"@[^@]*\.service$", "@.service", service))))
    own = [f"{directory}/{unit}" for unit in units for directory in UNIT_DIRECTORIES]
    # A drop-in also counts for the template, for names that begin alike up to a dash, and for all services.
    parts = [match.start() + 1 for match in re.finditer("-", service)]
    names = [*units, *(f"{service[:end]}.service" for end in parts), "service"]
    paths = list(own)
    for directory in (f"{top}/{name}.d" for name in names for top in UNIT_DIRECTORIES):
        paths += [f"{directory}/{file}" for file in _names(root, directory) if file.endswith(".conf")]
    there = [path for path in paths if path != path_of(service) and root.exists(path)]
    if not any(path in own for path in there):
        text = "is no service of this system: the drop-in would wait for one of that name"
        yield Finding("service-unknown", WARNING, service, text, "systemctl list-unit-files shows them")
    for path in there:
        data = _data(root, path)
        if b"LD_PRELOAD" in data:
            text = "gives the service an LD_PRELOAD of its own, which ours would displace"
            yield Finding("service-preloads", ERROR, path, text, f"take it out, or leave {service} out")
        for file in _ENVIRONMENT_FILE.findall(data):
            name = os.fsdecode(file)
            if b"LD_PRELOAD" in _data(root, name):
                text = f"gives {service} an LD_PRELOAD of its own, which displaces ours"
                yield Finding("service-preloads", ERROR, name, text, f"take it out, or leave {service} out")


def _files(root: Root) -> Iterator[str]:
    for directory in UNIT_DIRECTORIES:
        for name in _names(root, directory):
            if name.endswith(".service"):
                yield f"{directory}/{name}"
            elif name.endswith("service.d"):
                yield from (f"{directory}/{name}/{file}" for file in _names(root, f"{directory}/{name}"))


def _names(root: Root, directory: str) -> tuple[str, ...]:
    try:
        return root.names(directory)
    except HostError:
        return ()


def _data(root: Root, path: str) -> bytes:
    try:
        state = root.read(path, limit=1 << 20)
    except HostError:
        return b""
    return b"" if state is None else state.data
