"""Systemd plan: the unit that verifies the configuration at boot."""

from __future__ import annotations

from memproxy_sol.findings import Finding
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.policy import Policy
from memproxy_sol.steps import ChangeService, ReplaceFile


def deliver(
    facts: LinuxFacts, policy: Policy, created: dict[str, str]
) -> tuple[list[ReplaceFile | ChangeService], list[Finding]]:
    """The steps to the unit that the policy wants; `created`, our files and their digests, is brought up to date."""
    return [], []
