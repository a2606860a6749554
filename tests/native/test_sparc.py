"""The sources compile and link for Solaris on SPARC, V8+ and V9: by clang and GNU's linker, against a stand-in libc.

Nothing runs, here or anywhere yet: on SPARC the library is built by hand, with the system's own compiler and linker.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from proxied import NATIVE, clean_environment, must

from memproxy_sol import elf, libc_stub
from tests import needs

SYSROOT = NATIVE / "sysroot" / "solaris"
CLANG = {32: ["--target=sparc-sun-solaris2.11", "-mcpu=v9"], 64: ["--target=sparcv9-sun-solaris2.11"]}
ASSEMBLER = {32: ["-32", "-Av8plus"], 64: ["-64", "-Av9"]}
EMULATION = {32: "elf32_sparc", 64: "elf64_sparc"}
ARCHITECTURES = {32: {"all", "sparc-both", "elf32", "sparc"}, 64: {"all", "sparc-both", "elf64", "sparcv9"}}
MACHINE = {32: 18, 64: 43}
"""EM_SPARC32PLUS, EM_SPARCV9 (System V ABI, SPARC supplements)."""
TOOLS = "sparc64-linux-gnu-"


@pytest.mark.parametrize("bits", [32, 64])
def test_links_with_the_libc_of_solaris_10_alone(tmp_path: Path, bits: int) -> None:
    if shutil.which(f"{TOOLS}ld") is None:
        needs.missing(f"{TOOLS}ld", "binutils-sparc64-linux-gnu")
    assembler = [f"{TOOLS}as", "-K", "PIC", *ASSEMBLER[bits], "-o"]
    linker = [f"{TOOLS}ld", "-m", EMULATION[bits], "-shared"]

    def run(*command: object) -> None:
        must(command, cwd=tmp_path, env=clean_environment())

    with (SYSROOT / "libc-symbols.tsv").open(newline="") as table:
        libc = [
            libc_stub.StubSymbol(row["symbol"], row["type"] == "FUNCTION", row["version"])
            for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)
            if ARCHITECTURES[bits] & set(row["arch"].split(",")) and libc_stub.in_solaris_10(row["version"])
        ]
    (tmp_path / "libc.s").write_text(libc_stub.assembly(libc))
    (tmp_path / "libc.map").write_text(libc_stub.version_script(libc))
    run(*assembler, "libc.o", "libc.s")
    run(*linker, f"-soname={libc_stub.SONAME}", "--version-script=libc.map", "-o", "libc.so", "libc.o")

    flags = ["-std=c++17", "-O1", "-fPIC", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fno-builtin"]
    flags += ["-fvisibility=hidden", "-fasynchronous-unwind-tables", "-fno-addrsig", "-Wall", "-Wextra", "-Werror"]
    flags += ["-D_REENTRANT", "-D_FILE_OFFSET_BITS=64", '-DMEMPROXY_LIST="/etc/memproxy.conf"']
    flags += ["-nostdlibinc", "-isystem", str(SYSROOT / "include"), "-S"]
    sources = sorted(NATIVE.glob("*.cc"))
    run("clang++", *CLANG[bits], *flags, *sources)
    for source in sources:
        run(*assembler, f"{source.stem}.o", f"{source.stem}.s")
    names = (NATIVE / "names.def").read_text().replace("@", {32: "j", 64: "m"}[bits]).splitlines()
    exports = {name for name in names if name and not name.startswith("#")}
    (tmp_path / "exports.map").write_text(f"{{ global: {' '.join(f'{name};' for name in exports)} local: *; }};")
    # What clang multiplies by in 64 bit; it is in the libgcc.a of a compiler for SPARC, which is not at hand.
    missing = ["--defsym=__multi3=0"] if bits == 64 else []
    options = ["-soname=libmemproxy.so", "-z", "text", "-z", "defs", "-z", "now", "--version-script=exports.map"]
    objects = [f"{source.stem}.o" for source in sources]
    run(*linker, *options, *missing, "-o", "libmemproxy.so", *objects, "libc.so")

    library = elf.read(tmp_path / "libmemproxy.so")
    assert (library.bits, library.machine, library.byte_order, library.kind) == (bits, MACHINE[bits], "big", "shared")
    assert library.needed == (libc_stub.SONAME,)
    assert library.exports == exports
    assert not library.tls
    assert not library.text_relocations
    assert {(symbol.name, symbol.version) for symbol in library.imports} <= {(one.name, one.version) for one in libc}
