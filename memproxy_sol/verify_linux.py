"""Verify on Linux: whether /etc/ld.so.preload and what it names are as they were installed.

Standard library and own modules only: this runs at boot.
"""

from __future__ import annotations

from memproxy_sol import access, elf_header, ld_so_preload, plan_linux, probe_program, systemd_unit
from memproxy_sol.abi import ABIS, LD_SO_PRELOAD
from memproxy_sol.errors import ElfError, HostError
from memproxy_sol.findings import ERROR, NOTE, WARNING
from memproxy_sol.generation import LIBRARY
from memproxy_sol.hosts.linux import LinuxFacts, is_link
from memproxy_sol.record import AbiRecord, Record, digest
from memproxy_sol.verify import Checker


class LinuxChecker(Checker):
    """The findings on a Linux host."""

    dies = "every {abi} program complains of it at its start, and does without"
    facts: LinuxFacts

    def names_ours(self) -> bool:
        """Whether the list of preloads names a generation, whatever the record says."""
        return any(map(ld_so_preload.is_ours, self.facts.preload.items))

    def configurations(self, record: Record) -> None:
        """Judge the list of preloads."""
        for abi in self.facts.abis:
            if abi.bits not in record.abis:
                text = "memproxy is not configured for this ABI: its programs use the system allocator"
                self.add("abi-not-configured", NOTE, abi.name, text, self.install(abi.bits))
        for bits in record.abis:
            if ABIS[bits] not in self.facts.abis:
                text = f"has no runtime linker for {bits}-bit programs any more"
                self.add("linker-gone", NOTE, self.root.path, text)
        here, mend = self.facts.preload.state, self.install()
        for path in filter(plan_linux.is_other, record.files):
            self._other(path, record.files[path], mend)
        if record.abis and all(one.scope == "services" for one in record.abis.values()):
            return
        if here is None and is_link(self.root):
            text = "is a link that leads nowhere: programs do without memproxy"
            self.add("config-missing", ERROR, LD_SO_PRELOAD, text, access.aside(self.root, LD_SO_PRELOAD))
            return
        if here is None:
            self.add("config-missing", ERROR, LD_SO_PRELOAD, "does not exist: programs do without memproxy", mend)
            return
        before = len(self.findings)
        known = next(iter(record.abis.values()), None)
        is_roots = known is not None and known.scope == "root"
        judged = access.judge(self.root, LD_SO_PRELOAD, "config", self.groups)
        self.findings += [one for one in judged if one.identifier != "config-unreadable" or not is_roots]
        if is_roots and here.mode & 0o077:
            text = f"mode {here.mode:04o}: it was installed for root's processes alone, and others' have it, too"
            self.add("scope-changed", WARNING, LD_SO_PRELOAD, text, mend)
        self._items(record, mend)
        if len(self.findings) == before and known is not None and digest(here.data) != known.written:
            text = "was changed since install, though memproxy's part of it is right"
            self.add("config-changed", NOTE, LD_SO_PRELOAD, text, "nothing needs to be done")

    def _other(self, path: str, wanted: str, mend: str) -> None:
        """A file that is ours as a whole."""
        what = plan_linux.purpose(path)
        try:
            state = self.root.read(path)
        except HostError as error:
            self.add("drop-in-missing", ERROR, path, f"{error.what} ({what})", mend)
            return
        if state is None:
            self.add("drop-in-missing", ERROR, path, f"does not exist ({what})", mend)
        elif digest(state.data) != wanted:
            self.add("drop-in-changed", WARNING, path, "is not the file that was installed", mend)

    def _items(self, record: Record, mend: str) -> None:
        items = self.facts.preload.items
        wanted = _wanted(record) or [item for item in items if ld_so_preload.is_ours(item)]
        missing = [item for item in wanted if item not in items]
        if missing:
            self.add("preload-missing", ERROR, LD_SO_PRELOAD, f"the preload entry of {missing[0]} is gone", mend)
        elif wanted:
            first = items.index(wanted[0])
            if list(items[first : first + len(wanted)]) != wanted:
                text = "the allocator does not stand right behind libmemproxy in the list of preloads"
                self.add("preload-order", ERROR, LD_SO_PRELOAD, text, mend)
        strangers = [item for item in items if ld_so_preload.is_ours(item) and item not in wanted]
        if strangers:
            text = f"also preloads {strangers[0]}, of another generation"
            self.add("preload-foreign-generation", ERROR, LD_SO_PRELOAD, text, mend)
        for item in dict.fromkeys(items):
            if ld_so_preload.is_ours(item):
                continue
            paths = [ld_so_preload.expand(item, loader.lib, None, "") for loader in self.facts.loaders]
            if None not in paths and not any(path is not None and self.root.exists(path) for path in paths):
                text = f"preloads {ld_so_preload.shown(item)}, which does not exist: every program complains of it"
                self.add("preload-object-missing", WARNING, LD_SO_PRELOAD, text, "put it there, or take it out")

    def libraries(self, record: Record) -> None:
        """Judge each member of the generation that the list names."""
        for bits, known in record.abis.items():
            if ABIS[bits] in self.facts.abis:
                for name in known.files:
                    self._library(ABIS[bits], known.generation, self.facts.member(bits, name), record)
        for directory in sorted({known.generation for known in record.abis.values()}):
            members = record.generations.get(directory, {})
            self._placeholders(directory, members, record)
            self._strangers(directory, members)
            mount = self.facts.mounted_later(directory)
            if mount is not None:
                text = f"lies on {mount}, which is not mounted when the first processes start"
                self.add("prefix-not-on-root", WARNING, directory, text, f"{self.install()} with another prefix")

    def dependencies(self, record: Record) -> None:
        """Judge what each library needs: one that is gone ends each program of the ABI before its first instruction."""
        from memproxy_sol import elf, preflight_linux  # pyelftools, which is not needed at boot

        for bits, known in record.abis.items():
            if ABIS[bits] not in self.facts.abis:
                continue
            for name in known.files:
                path = f"{known.generation}/{self.facts.member(bits, name)}"
                try:
                    library = elf.read(self.root.host_path(self.root.resolve(path)))
                except (ElfError, HostError):
                    continue  # judged with the libraries
                for needed in library.needed:
                    if preflight_linux.found_at(self.facts, bits, needed) is None:
                        text = f"needs {needed}, which is not there: no {bits}-bit program starts"
                        self.add(
                            "dependency-missing", ERROR, path, text, "memproxy-sol uninstall, or install its package"
                        )

    def service(self, record: Record) -> None:
        """Judge the unit that was delivered, and whether it is started at boot, by the files."""
        path = systemd_unit.PATH
        if path not in record.files or not self.facts.systemd:
            return
        try:
            state = self.root.read(path)
        except HostError as error:
            what = "is masked by somebody" if systemd_unit.is_masked(self.root) else error.what
            text = f"{what}: nothing verifies the configuration at boot"
            self.add("unit-disabled", NOTE, path, text, f"systemctl unmask {systemd_unit.NAME}, and install again")
            return
        if state is None:
            text = "does not exist: nothing verifies the configuration at boot"
            self.add("unit-missing", WARNING, path, text, self.install())
            return
        if digest(state.data) != record.files[path]:
            text = "was changed since install; it is kept as it is"
            self.add("unit-changed", NOTE, path, text, f"rm {path}, and install again, for the delivered one")
        program = systemd_unit.program_in(state.data)
        if program is not None and not self.root.exists(program):
            text = "the program that the service starts is not there"
            self.add("service-program-missing", NOTE, program, text, "install memproxy-sol there")
        elif not systemd_unit.links(self.root):
            text = "is not enabled: nothing verifies the configuration at boot"
            self.add("unit-disabled", NOTE, path, text, f"systemctl enable --now {systemd_unit.NAME}")

    def _placeholders(self, directory: str, members: dict[str, str], record: Record) -> None:
        """What stands for an ABI that gets no library: missing or damaged, its runtime linker complains."""
        for loader in self.facts.loaders:
            known = record.abis.get(loader.bits)
            mine = [name for name in members if name.rpartition("/")[0] == loader.lib]
            for name in mine:
                file = name.rpartition("/")[2]
                if file not in (known.files if known is not None else ()):
                    kind = elf_header.ET_EXEC if file == probe_program.NAME else elf_header.ET_DYN
                    self._library(ABIS[loader.bits], directory, name, record, kind)
            if members and not mine:
                text = f"has nothing for {loader.path}, which came later: {self.dies.format(abi=f'{loader.bits}-bit')}"
                self.add("linker-unserved", ERROR, directory, text, self.install())


def _wanted(record: Record) -> list[str]:
    """Our items, as install wrote them."""
    known: list[AbiRecord] = list(record.abis.values())
    names = dict.fromkeys(name for one in known for name in one.files)
    ordered = [*(name for name in names if name == LIBRARY), *(name for name in names if name != LIBRARY)]
    return [f"{known[0].generation}/$LIB/{name}" for name in ordered] if known else []
