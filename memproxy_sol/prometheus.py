"""Prometheus: what verify found, as a file for the textfile collector of node_exporter.

Source: the text exposition format, version 0.0.4: HELP, TYPE, samples; label values with \\, " and line feed escaped.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Mapping

from memproxy_sol import files, processes
from memproxy_sol.errors import HostError
from memproxy_sol.findings import SEVERITIES
from memproxy_sol.verify import Report
from memproxy_sol.verify_live import LiveReport

MODE = 0o644
"""The collector runs as a user of its own."""


def text(report: Report, now: float) -> str:
    """The samples of one verification; `now` is in seconds since the epoch. Findings are counted, not named."""
    severities = {severity: sum(f.severity == severity for f in report.findings) for severity in SEVERITIES}
    lines = [
        *_metric("memproxy_ok", "1 if verify found no error.", [({}, int(not report.errors))]),
        *_metric(
            "memproxy_findings",
            "Findings of verify by severity.",
            [({"severity": severity}, count) for severity, count in severities.items()],
        ),
        *_metric(
            "memproxy_configured",
            "1 if memproxy is configured for the ABI.",
            [({"abi": str(bits)}, int(bits in report.abis)) for bits in (32, 64)],
        ),
    ]
    if isinstance(report, LiveReport) and report.processes is not None:
        samples = [
            ({"state": state, "abi": bits, "route": route}, len(group))
            for (state, bits, route), group in processes.groups(report.processes).items()
        ]
        lines += _metric("memproxy_processes", "Live processes by state, ABI and route.", samples)
    lines += _metric("memproxy_verify_timestamp_seconds", "When verify looked, since the epoch.", [({}, int(now))])
    return "\n".join(lines) + "\n"


def write(path: str, content: str) -> None:
    """Put `content` into the file `path` of this machine in one rename; HostError on failure."""
    directory = os.path.dirname(os.path.abspath(path))
    try:
        # Not of the name that the collector looks for (*.prom).
        descriptor, new = tempfile.mkstemp(prefix=".memproxy-", suffix=".new", dir=directory)
        try:
            files.write_all(descriptor, content.encode("utf-8", "backslashreplace"))
            os.fchmod(descriptor, MODE)
            os.fsync(descriptor)
            os.rename(new, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        text = f"cannot be written: {error.strerror or error}"
        raise HostError(text, where=path, hint="name a file in a directory of yours") from error


def _metric(name: str, help_text: str, samples: Iterable[tuple[Mapping[str, str], int]]) -> list[str]:
    lines = [f"# HELP {name} {help_text}", f"# TYPE {name} gauge"]
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(content)}"' for label, content in labels.items())
        lines.append(f"{name}{{{inside}}} {value}" if inside else f"{name} {value}")
    return lines


def _escaped(content: str) -> str:
    return content.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
