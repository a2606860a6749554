"""What makes a shared object an allocator: which of malloc's family it exports, and under which names.

The names are those of native/heap.cc, which decides in the process.
"""

from __future__ import annotations

PREFIXES = ("", "mi_", "je_", "tc_", "TCMallocInternal", "lt", "scalable_", "xx", "h_", "sn_")
"""Prefixes under which known allocators export malloc, realloc and free. rpmalloc's own names want each thread to be
announced to it, so it counts by its plain names alone."""

_NEEDED = ("malloc", "realloc", "free")
_ALIGNED = ("memalign", "aligned_alloc", "posix_memalign")


def is_allocator(exports: frozenset[str]) -> bool:
    """Whether an object with these exports can serve as custom allocator."""
    return _prefix(exports) is not None


def aligns(exports: frozenset[str]) -> bool:
    """Whether an allocator with these exports has any function for aligned blocks."""
    prefix = _prefix(exports)
    return prefix is not None and any(_name(prefix, name) in exports for name in _ALIGNED)


def _prefix(exports: frozenset[str]) -> str | None:
    return next((p for p in PREFIXES if all(_name(p, name) in exports for name in _NEEDED)), None)


def _name(prefix: str, name: str) -> str:
    if prefix != "TCMallocInternal":
        return prefix + name
    return prefix + "".join(word.capitalize() for word in name.split("_"))
