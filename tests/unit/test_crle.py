"""crle.py against every recording: displays, and what crle makes of its options."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recordings import LAYOUTS, OBJECT_CACHE, STEPS, Step

from memproxy_sol import crle, crle_display, ld_config
from memproxy_sol.errors import CrleError, LdConfigError
from memproxy_sol.ld_config import Layout, LdConfig, Variable, decode, encode, new

X86 = LAYOUTS["32"]


def name(step: Step) -> str:
    return f"{step.vector}-{STEPS.index(step)}"


def read(step: Step) -> LdConfig:
    """The file before the step, as crle reads it."""
    assert step.before is not None
    layout = None if step.before[:4] == ld_config.MAGIC else step.layout
    return decode(step.before, layout=layout, mapped=True)


DISPLAYED = [s for s in STEPS if s.exit == 0 and not s.writes]
WRITTEN = [s for s in STEPS if s.exit == 0 and s.writes and s.vector not in OBJECT_CACHE]
CRASHED = [s for s in STEPS if s.exit < 0]


def test_the_recordings_hold_enough_of_each_kind() -> None:
    assert (len(DISPLAYED), len(WRITTEN), len(CRASHED)) == (182, 176, 3)


@pytest.mark.parametrize("step", DISPLAYED, ids=name)
def test_display_says_what_the_decoder_says(step: Step) -> None:
    display = crle_display.parse_display(step.stdout)
    if step.before is None:
        assert display == crle_display.Display(step.file, None, step.layout)
    else:
        assert display == crle_display.shown(read(step), step.file)


@pytest.mark.parametrize("step", CRASHED, ids=name)
def test_where_crle_dies_the_decoder_reports(step: Step) -> None:
    with pytest.raises(LdConfigError, match="outside"):
        read(step)


@pytest.mark.parametrize("step", WRITTEN, ids=name)
def test_same_bytes_as_crle(step: Step) -> None:
    options = [(f"-{letter}", argument) for letter, argument in step.options if letter in "lseEt"]
    if "u" in step.letters:
        outcome = crle.update(None if step.before is None else read(step), options, step.layout)
    else:
        outcome = crle.create(options, step.layout)
    assert encode(outcome.config) == step.after
    assert [f"crle: {line}" for line in outcome.warnings] == step.stderr.split("\n")[:-1]


@pytest.mark.parametrize("step", [s for s in STEPS if s.writes and s.vector in OBJECT_CACHE], ids=name)
def test_same_bytes_as_crle_from_the_value_of_an_object_cache(step: Step) -> None:
    assert step.after is not None
    config = decode(step.after)
    assert config.has_object_cache
    assert encode(config) == step.after


@pytest.mark.parametrize(
    "step", [s for s in STEPS if s.exit == 0 and s.writes and not {"u", "t"} & s.letters], ids=name
)
def test_command_line_writes_the_value_that_it_is_for(step: Step) -> None:
    assert step.after is not None
    config = decode(step.after)
    if step.vector in OBJECT_CACHE:
        with pytest.raises(CrleError, match="no options for this value of objects"):
            crle.command_line(config, step.file)
        return
    arguments = crle.command_line(config, "/x/ld.config")
    flag = ("-64",) if step.layout.bits == 64 else ()
    assert arguments[: len(flag) + 2] == (*flag, "-c", "/x/ld.config")
    options = arguments[len(flag) + 2 :]
    assert encode(crle.create(tuple(zip(options[::2], options[1::2])), step.layout).config) == step.after


AOUT = replace(
    new(X86),
    library_path=("/a",),
    trusted_directories=("/b",),
    aout_library_path=("/c",),
    aout_trusted_directories=("/d",),
)


def test_command_line_steers_clear_of_the_trap_of_t() -> None:
    arguments = crle.command_line(AOUT, "f")
    assert arguments == ("-c", "f", "-t", "AOUT", "-l", "/c", "-s", "/d", "-t", "ELF", "-l", "/a", "-s", "/b")


def test_command_line_leaves_to_crle_what_crle_decides() -> None:
    noisy = replace(new(X86, identified=False), version=3, environment=(Variable("A=1", 0x1001), Variable("B=2", 3)))
    assert crle.command_line(noisy, "f") == ("-c", "f", "-e", "A=1", "-E", "B=2")


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (replace(new(X86), library_path=("/a", "/b", "/a")), "library_path"),
        (replace(new(X86), library_path=("/a", "", "/b")), "library_path"),
        (replace(new(X86), trusted_directories=()), "trusted_directories"),
        (replace(new(X86), flags=9), "flags"),
        (replace(new(X86), dlflags=0xFFF), "dlflags"),
        (replace(new(X86), environment=(Variable("A=1"), Variable("A=2"))), "environment"),
        (replace(new(X86), reservation=(4096, 8192)), "reservation"),
    ],
)
def test_command_line_refuses_what_crle_would_not_write(config: LdConfig, field: str) -> None:
    with pytest.raises(CrleError, match=f"f: crle has no options for this value of {field}"):
        crle.command_line(config, "f")


def variables(*texts: str, update: bool = False) -> list[str]:
    options = [("-e", text) for text in texts]
    outcome = crle.update(None, options, X86) if update else crle.create(options, X86)
    return [v.text for v in outcome.config.environment or ()]


def test_variables_without_name_or_sign() -> None:
    """The finer rules of section 2.4 of the reference, which no recording shows together."""
    assert variables("A", "A", "A=1", "A=2") == ["A", "A=1"]
    assert variables("A=1", "A") == ["A=1", "A"]
    assert variables("A", "=x") == ["A"]
    assert variables("A=1", "=x", "=y", "B") == ["A=1", "=x", "B"]


def test_a_name_twice_in_the_old_file() -> None:
    old = replace(new(X86), environment=(Variable("A=1", 1), Variable("B=1", 1), Variable("A=2", 2)))
    outcome = crle.update(old, [("-e", "A=3")], X86)
    assert outcome.config.environment == (Variable("A=2", 3), Variable("B=1", 0x1001))
    assert outcome.warnings == ("warning: A: environment variable multiply-defined, first definition taken",)


def test_update_of_a_newer_version_or_an_object_cache_is_refused() -> None:
    with pytest.raises(CrleError, match="version 5"):
        crle.update(replace(new(X86), version=5), [], X86)
    with pytest.raises(CrleError, match="object cache"):
        crle.update(replace(new(X86), flags=0xA), [], X86)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(CrleError, match="unknown object type: COFF"):
        crle.create([("-t", "COFF")], X86)
    with pytest.raises(CrleError, match="option -i"):
        crle.create([("-i", "/lib")], X86)


# Displays of other releases, and what is no display

FULL = next(s for s in DISPLAYED if s.vector == "practice-64-preload").stdout


def test_the_full_display_has_all_that_the_next_tests_change() -> None:
    for part in ("[version 4]", " (ELF):\t", "  (replaceable)\n", "  Platform:\t"):
        assert part in FULL


@pytest.mark.parametrize(
    ("old", "new_text", "version", "layout"),
    [
        (" (ELF)", "", 4, LAYOUTS["64"]),
        (":\t", ":   ", 4, LAYOUTS["64"]),
        (":\t", ":\t\t", 4, LAYOUTS["64"]),
        ("[version 4]", "[version 17]", 17, LAYOUTS["64"]),
        ("[version 4]", "[3]", 3, LAYOUTS["64"]),
        ("[version 4]", "[version -1]", 0xFFFFFFFF, LAYOUTS["64"]),
        ("  Platform:\t64-bit LSB AMD64\n", "", 4, None),
        ("LSB AMD64", "MSB SPARCV9", 4, Layout(64, "big", 43)),
        ("LSB AMD64", "LSB AARCH64", 4, Layout(64, "little", 183)),
        ("LSB AMD64", "LSB 0xb7", 4, Layout(64, "little", 183)),
        ("  \n", "\n", 4, LAYOUTS["64"]),
    ],
)
def test_variations_of_other_releases(old: str, new_text: str, version: int, layout: Layout | None) -> None:
    changed = FULL.replace(old, new_text)
    assert changed != FULL
    assert crle_display.parse_display(changed) == replace(
        crle_display.parse_display(FULL), version=version, layout=layout
    )


def test_a_value_may_hold_blanks_and_what_looks_like_the_tail() -> None:
    changed = FULL.replace(
        "LD_PRELOAD_64=", "A=x  (permanent)  (permanent)\n   B = \t  (replaceable)\n  LD_PRELOAD_64="
    )
    environment = crle_display.parse_display(changed).environment
    assert environment is not None
    assert environment[:2] == (Variable("A=x  (permanent)", 2), Variable(" B = \t", 1))


def test_filters_and_reservation() -> None:
    block = "\nFilters:\n  libf.so  -  /p/liba.so:libb.so:\n    /p/liba.so  (filtee)\n"
    block += "\nMemory Reservation:\tff00 - ff80 (80 bytes)\n"
    display = crle_display.parse_display(FULL.replace("\nCommand line:", block + "\nCommand line:"))
    assert display.filters == (("libf.so", "/p/liba.so:libb.so", ("/p/liba.so",)),)
    assert display.reservation == (0xFF00, 0xFF80)


# The part behind the command line of a -v display can be missing without a trace.
@pytest.mark.parametrize("step", [s for s in DISPLAYED[::4] if "\nObject Entries:" not in s.stdout], ids=name)
def test_a_display_that_is_cut_off_is_an_error(step: Step) -> None:
    for length in range(len(step.stdout)):
        with pytest.raises(CrleError):
            crle_display.parse_display(step.stdout[:length])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 2),
        ("crle: illegal option -- q\n", 1),
        (FULL.replace("Configuration file", "Konfigurationsdatei"), 2),
        (FULL.replace("64-bit", "128-bit"), 3),
        (FULL.replace("AMD64", "PDP11"), 3),
        (FULL.replace("Trusted Directories", "Trusted Folders"), 5),
        (FULL.replace("  Trusted Directories", "  Platform:\t64-bit LSB AMD64\n  Trusted Directories"), 5),
        (FULL.replace("  (replaceable)", "  (perhaps)"), 8),
        (FULL.replace("Environment Variables:", "Surroundings:"), 7),
        (FULL.replace("  crle ", "  elrc "), 11),
        (FULL + "more\n", 13),
        (FULL.replace("config  \n", "config  [ RTLD_WHAT ]\n"), 2),
    ],
)
def test_anything_else_is_an_error_with_its_line(text: str, line: int) -> None:
    with pytest.raises(CrleError, match=f"crle: line {line} of its display is "):
        crle_display.parse_display(text)


@pytest.mark.parametrize("step", [s for s in STEPS if s.exit != 0 or s.writes], ids=name)
def test_what_failed_or_wrote_has_no_display(step: Step) -> None:
    with pytest.raises(CrleError):
        crle_display.parse_display(step.stdout)
