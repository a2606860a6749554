"""Former: what of a configuration of an earlier time may come into force again. Reads, and changes nothing.

An object that is preloaded and missing ends every process. So a generation that is gone or damaged is never named
again, nor another's object that is gone since and that the present configuration does not name.
"""

from __future__ import annotations

from collections.abc import Mapping

from memproxy_sol import access, preflight
from memproxy_sol import entry as entries
from memproxy_sol.abi import Abi
from memproxy_sol.errors import HostError
from memproxy_sol.findings import WARNING, Finding, errors_in
from memproxy_sol.hosts.solaris import SolarisFacts
from memproxy_sol.ld_config import LdConfig, encode
from memproxy_sol.preloads import effective
from memproxy_sol.record import AbiRecord, digest
from memproxy_sol.root import Root

Generations = Mapping[str, Mapping[str, str]]
"""SHA-256 of the members by name, by the generation's directory."""


def vetted(
    facts: SolarisFacts, abi: Abi, config: LdConfig, generations: Generations, known: AbiRecord | None = None
) -> tuple[LdConfig, tuple[Finding, ...]]:
    """`config` less what must not be named again, with a finding for each; `known` is what the record said of it."""
    findings: list[Finding] = []
    named = [item.name for item in effective(encode(config), facts.layout(abi)).preloads]
    problems = [problem(facts, abi, name, generations) for name in named if entries.is_ours(name)]
    wrong = next((found for found in problems if found is not None), None)
    if wrong is not None:
        findings.append(wrong)
        # A definition that we made goes as a whole: emptied it would still displace others'.
        config = entries.taken_out(config, abi, known)
    present = facts.configs[abi.bits].state
    now = set() if present is None else {i.name for i in effective(present.data, facts.layout(abi)).preloads}
    paths = effective(encode(config), facts.layout(abi)).library_path
    others = [name for name in named if not entries.is_ours(name) and name not in now]
    gone = [name for name in others if preflight.locate(facts, name, paths) is None]
    if gone:
        text = f"named {', '.join(gone)} then, which does not exist any more and is left out"
        hint = "put it there, and preload it again if it is wanted"
        findings.append(Finding("preload-object-missing", WARNING, abi.config_path, text, hint))
        config = entries.without_preload(config, abi, lambda item: item in gone)
    return config, tuple(findings)


def problem(facts: SolarisFacts, abi: Abi, path: str, generations: Generations) -> Finding | None:
    """Why an object of ours must not be preloaded into the processes of `abi`, None if it may be."""
    directory = path.rpartition("/")[0]
    directory = directory[: -len(abi.subdirectory)] if abi.subdirectory else directory
    name = path[len(directory) + 1 :]
    text = ""
    try:
        state = facts.root.read(path)
        known = generations.get(directory, {}).get(name)
        if state is None:
            text = "is gone"
        elif known is None:
            text = "is of a generation that nothing is known of"
        elif digest(state.data) != known:
            text = "is not what was installed"
        else:
            wrong = errors_in(access.judge(facts.root, path, "library", access.Groups(facts.root)))
            text = f"cannot be used by every process: {wrong[0].where} {wrong[0].text}" if wrong else ""
    except HostError as error:
        text = error.what
    if not text:
        return None
    text += f", so the {abi.name} configuration does without our entry"
    return Finding("generation-unusable", WARNING, path, text, "memproxy-sol install places a generation anew")


def damage(root: Root, directory: str, generations: Generations) -> Finding | None:
    """Why a generation must not be named by a list that serves all ABIs, None if it may be."""
    text = "" if directory in generations else "is gone, or of a generation that nothing is known of"
    for name, known in generations.get(directory, {}).items():
        path = f"{directory}/{name}"
        try:
            state = root.read(path)
            wrong = errors_in(access.judge(root, path, "library", access.Groups(root)))
            if state is None or digest(state.data) != known:
                text = text or f"{name} is not what was installed"
            elif wrong:
                text = text or f"{name} cannot be used by every process: {wrong[0].where} {wrong[0].text}"
        except HostError as error:
            text = text or f"{name}: {error.what}"
    if not text:
        return None
    text += ", so the list of preloads does without our entry"
    return Finding("generation-unusable", WARNING, directory, text, "memproxy-sol install places a generation anew")
