"""What a method runs with: the expanded command, the environment, the credentials and the directory (sections 5, 6)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.host.laboratory.smf_repository import Instance

if TYPE_CHECKING:
    from tests.host.laboratory.smf import Smf

ZONE = "global"
_SHELL_SIGNS = set(";&()|^<>\n \t\\\"'`")
"""What the restarter escapes in a value; `$ * ? [ # ~` it does not."""
_PRIVILEGES = frozenset(
    """
    contract_event contract_identity contract_observer cpc_cpu dtrace_kernel dtrace_proc dtrace_user file_chown
    file_chown_self file_dac_execute file_dac_read file_dac_search file_dac_write file_downgrade_sl file_flag_set
    file_link_any file_owner file_setid file_upgrade_sl graphics_access graphics_map ipc_dac_read ipc_dac_write
    ipc_owner net_bindmlp net_icmpaccess net_mac_aware net_privaddr net_rawaccess proc_audit proc_chroot
    proc_clock_highres proc_exec proc_fork proc_info proc_lock_memory proc_owner proc_priocntl proc_session
    proc_setid proc_taskid proc_zone sys_acct sys_admin sys_audit sys_config sys_devices sys_ip_config
    sys_ipc_config sys_linkdir sys_mount sys_net_config sys_nfs sys_res_config sys_resource sys_suser_compat
    sys_time sys_trans_label
    """.split()  # noqa: SIM905
)
_LATER_PRIVILEGES = frozenset(
    """
    file_read file_write net_access net_observability proc_secflags proc_prioup sys_dl_config sys_flow_config
    sys_iptun_config sys_ppp_config sys_res_bind sys_share sys_smb
    """.split()  # noqa: SIM905
)
"""Not on Solaris 10."""
_SETS = {"default", "basic", "all", "zone", "none"}


class BadContext(Exception):
    """The log line with which a method fails without being run and without a retry."""


@dataclass(frozen=True)
class Context:
    """What a method is run with."""

    command: str
    environment: dict[str, str]
    directory: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    """Lines of the log before the method runs."""


def expand(instance: Instance, method: str, text: str, smf: Smf) -> str:
    """The command with its tokens expanded. Raises BadContext."""

    def fail(why: str) -> BadContext:
        return BadContext(f'Could not expand method tokens in "{text}": {why}.')

    def value(reference: str) -> str:
        separator = " "
        if reference[-1:] in (",", ":"):
            reference, separator = reference[:-1], reference[-1]
        entity: Instance | None = instance
        name = reference
        if "/:properties/" in reference:
            fmri, _, name = reference.partition("/:properties/")
            entity = smf.repository.instance(fmri)
        group, _, key = name.rpartition("/")
        found = None
        if entity is not None:
            group = group or "application"
            found = entity.look_up(group, key, "running") or entity.look_up(group, key)
        if found is None:
            raise fail(f'property "{reference}" not found')
        return separator.join("".join(f"\\{c}" if c in _SHELL_SIGNS else c for c in one) for one in found.values)

    simple = {
        "%": "%",
        "m": method,
        "r": "svc.startd",
        "s": instance.service.name,
        "i": instance.name,
        "f": instance.fmri,
    }
    out, at = "", 0
    while at < len(text):
        if text[at] != "%":
            out, at = out + text[at], at + 1
            continue
        token = text[at + 1 : at + 2]
        if token == "{" and "}" in text[at:]:
            end = text.index("}", at)
            out, at = out + value(text[at + 2 : end]), end + 1
        elif token in simple and token:
            out, at = out + simple[token], at + 2
        else:
            raise fail("unknown method token")
    return out


def context(instance: Instance, method: str, command: str, smf: Smf) -> Context:
    """What the method group `method` of the running snapshot is run with. Raises BadContext."""
    own = instance.look_up(method, "use_profile", "running") is not None
    common = instance.look_up("method_context", "use_profile", "running") is not None

    def setting(name: str) -> str | None:
        # Property by property: a method's context with a directory alone keeps the service's credential (seen).
        found = instance.look_up(method, name, "running") or instance.look_up("method_context", name, "running")
        return found.values[0] if found is not None else None

    environment = {
        "PATH": "/usr/sbin:/usr/bin",
        "SMF_FMRI": instance.fmri,
        "SMF_METHOD": method,
        "SMF_RESTARTER": "svc:/system/svc/restarter:default",
        "SMF_ZONENAME": smf.zone,
        **smf.init_environment,
    }
    # A list on the method replaces the one of the service; a method context without a list keeps it (section 6).
    entries = instance.look_up(method, "environment", "running") or instance.look_up(
        "method_context", "environment", "running"
    )
    warnings = []
    seen: set[str] = set()
    for entry in entries.values if entries is not None else ():
        name, _, content = entry.partition("=")
        if name.startswith("SMF_"):
            warnings.append(f'Invalid environment variable "{name}"; "SMF_" prefix is reserved.')
            continue
        if name in seen:
            warnings.append(f'Ignoring duplicate environment variable "{name}".')
        seen.add(name)
        environment[name] = content
    if not own and not common:
        return Context(command, environment, warnings=tuple(warnings))
    user = setting("user")
    uid = gid = 0
    home = ""
    groups: tuple[int, ...] = ()
    if user is not None:
        account = smf.account("passwd", user)
        if account is None:
            raise BadContext(f'Could not interpret "user" property value "{user}", error 2.')
        uid, gid, home = int(account[2]), int(account[3]), account[5]
        group = setting("group")
        if group is not None and group != ":default":
            found = smf.account("group", group)
            if found is None:
                raise BadContext(f'Could not interpret "group" property value "{group}", error 2.')
            gid = int(found[2])
        groups = tuple(sorted({gid, *smf.groups_of(account[0])}))
    for name in ("privileges", "limit_privileges"):
        wanted = setting(name)
        if wanted is not None and not _known(wanted, smf.release):
            raise BadContext(f'Could not interpret "{name}" property value "{wanted}".')
    directory = setting("working_directory") or ":home"
    if directory in (":home", ":default"):
        home = home or (smf.account("passwd", "root") or [""] * 6)[5]
        directory = home or ("/" if smf.release == "10" else "/root")
    return Context(command, environment, directory, uid, gid, groups, tuple(warnings))


def _known(privileges: str, release: str) -> bool:
    known = _PRIVILEGES | _SETS | (frozenset() if release == "10" else _LATER_PRIVILEGES)
    names = (name.strip().lstrip(":!-").lower() for name in re.split(r"[,\s]+", privileges) if name.strip())
    return all(name.removeprefix("priv_") in known for name in names)
