"""ABI and machine: everything that differs between 32 and 64 bit, or between x86 and SPARC, is asked here.

Standard library only: the boot-time verification imports this module.

Sources: built-in defaults of ld.so.1 and the two files, crle(1) (reference "crle", section 1); class, data
and machine numbers, ELF specification and the identification block of the configuration file (section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

ELFCLASS = {32: 1, 64: 2}
"""EI_CLASS of an ELF object by bits."""


@dataclass(frozen=True)
class Abi:
    """One of the two programming models of a Solaris or illumos system."""

    bits: int
    """32 or 64."""

    @property
    def name(self) -> str:
        """`32-bit` or `64-bit`, as crle displays it."""
        return f"{self.bits}-bit"

    @property
    def subdirectory(self) -> str:
        """What is put behind a library directory: nothing for 32 bit, `/64` for 64 bit."""
        return "/64" if self.bits == 64 else ""

    @property
    def config_path(self) -> str:
        """The default runtime linker configuration file of this ABI."""
        return f"/var/ld{self.subdirectory}/ld.config"

    @property
    def default_library_path(self) -> tuple[str, ...]:
        """The library directories that ld.so.1 searches when the file names none."""
        return (f"/lib{self.subdirectory}", f"/usr/lib{self.subdirectory}")

    @property
    def default_trusted_directories(self) -> tuple[str, ...]:
        """The directories from which ld.so.1 loads preloads into secure processes when the file names none."""
        return (f"/lib/secure{self.subdirectory}", f"/usr/lib/secure{self.subdirectory}")

    @property
    def preload_variable(self) -> str:
        """The suffixed LD_PRELOAD of this ABI."""
        return f"LD_PRELOAD_{self.bits}"

    def suffixed(self, variable: str) -> str:
        """`variable` with this ABI's suffix: `LD_CONFIG` becomes `LD_CONFIG_64`."""
        return f"{variable}_{self.bits}"


ABI32 = Abi(32)
ABI64 = Abi(64)
ABIS: dict[int, Abi] = {32: ABI32, 64: ABI64}

LD_SO_PRELOAD = "/etc/ld.so.preload"
"""What the runtime linkers of the GNU C library preload into every process (ld.so(8))."""
CONFIGURATIONS: dict[str, tuple[int, ...]] = {
    **{abi.config_path: (abi.bits,) for abi in ABIS.values()},
    LD_SO_PRELOAD: (32, 64),
}
"""Every file that makes the runtime linkers of a host preload objects, with the ABIs (bits) that read it."""


@dataclass(frozen=True)
class Machine:
    """A processor family, as the runtime linker knows it."""

    name: str
    """What `--machine` takes: `x86`, `sparc` or `aarch64`."""
    byte_order: str
    """`little` or `big`."""
    elf_machine: dict[int, int]
    """e_machine by bits, for the ABIs that exist on this machine."""

    def abis(self) -> tuple[Abi, ...]:
        """The ABIs that exist on this machine, 32 bit first."""
        return tuple(ABIS[bits] for bits in sorted(self.elf_machine))


X86 = Machine("x86", "little", {32: 3, 64: 62})
SPARC = Machine("sparc", "big", {32: 2, 64: 43})
AARCH64 = Machine("aarch64", "little", {64: 183})
MACHINES: dict[str, Machine] = {machine.name: machine for machine in (X86, SPARC, AARCH64)}

EM_SPARC32PLUS = 18
"""32-bit SPARC code for V8+, which 32-bit SPARC processes load as well as EM_SPARC."""


def machine_of(elf_machine: int) -> Machine:
    """The machine that an ELF e_machine number belongs to; KeyError for one that Solaris does not run on."""
    for machine in MACHINES.values():
        if elf_machine in machine.elf_machine.values():
            return machine
    if elf_machine == EM_SPARC32PLUS:
        return SPARC
    raise KeyError(elf_machine)
