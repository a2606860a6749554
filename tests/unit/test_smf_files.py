"""smf_manifest.py: reading hostile and recorded manifests, setting the program, profiles, and places by release."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memproxy_sol import resources, smf_manifest
from memproxy_sol.errors import SmfError
from memproxy_sol.root import Root

DATA = Path(__file__).parent.parent / "data" / "smf"
DTD = DATA / "service_bundle.dtd.1"
RECORDED = {record["name"]: record for record in json.loads((DATA / "validate.json").read_text())}
SHIPPED = resources.smf_manifest().read_bytes()
DEFAULT_PROGRAM = "/usr/local/bin/memproxy-sol"

# What svccfg refused for reasons that only the DTD, the types or the restarter's templates tell; we need not see them.
BEYOND_US = {name for name in RECORDED if name.startswith(("dtd-", "tmpl-", "bad-value", "bad-fmri", "bad-type"))}


def dtd_valid(data: bytes, tmp_path: Path, dtd: Path = DTD) -> bool:
    """What libxml2, the parser of svccfg, says of the document."""
    document = tmp_path / "document.xml"
    document.write_bytes(data)
    result = subprocess.run(
        ["xmllint", "--noout", "--nonet", "--nowarning", "--dtdvalid", str(dtd), str(document)], capture_output=True
    )
    assert result.returncode in (0, 3), result.stderr
    return result.returncode == 0


# --- the program


def test_manifest_with_the_default_program_is_the_shipped_file() -> None:
    assert smf_manifest.manifest_with(DEFAULT_PROGRAM) == SHIPPED


PROGRAMS = [
    "/opt/memproxy/bin/memproxy-sol",
    "/opt/a b/memproxy-sol",
    "/opt/<&>\"'/memproxy-sol",
    "/opt/\\1/back\\g<0>slash",
    "/opt/é/memproxy-sol",
    "/a=b,c:d;e^f|g(h)/!@+",
    "/" + "x" * 1022,
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_only_the_value_of_the_program_changes(program: str, tmp_path: Path) -> None:
    data = smf_manifest.manifest_with(program)
    assert smf_manifest.parse_manifest(data) == smf_manifest.Manifest(smf_manifest.FMRI, enabled=False, program=program)
    assert dtd_valid(data, tmp_path)
    before, after = (text.splitlines() for text in (SHIPPED.decode(), data.decode()))
    assert len(before) == len(after)
    assert [b for b, a in zip(before, after) if b != a] == [
        f'      <propval name="program" type="astring" value="{DEFAULT_PROGRAM}"/>'
    ]


@pytest.mark.parametrize(
    "program",
    [
        "",
        "memproxy-sol",
        "./memproxy-sol",
        "/opt/bin/",
        "/",
        "/opt/a\nb",
        "/opt/a\tb",
        "/opt/a\0b",
        "/opt/\udcff/b",
        "/" + "x" * 1023,
        *(f"/opt/a{character}b/memproxy-sol" for character in "$*?[#~%{}"),
    ],
)
def test_a_program_that_the_shell_would_misread_is_refused(program: str) -> None:
    with pytest.raises(SmfError, match="cannot be the program of the service"):
        smf_manifest.check_program_path(program)
    with pytest.raises(SmfError):
        smf_manifest.manifest_with(program)


def test_a_refused_program_is_named_without_what_a_terminal_obeys() -> None:
    with pytest.raises(SmfError) as caught:
        smf_manifest.check_program_path("/opt/\x1b[31m\udcff")
    assert str(caught.value).isprintable()
    assert "svc.startd does not protect [" in str(caught.value)


def test_a_shipped_manifest_without_a_place_for_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "memproxy.xml"
    shipped.write_bytes(SHIPPED.replace(b'name="program" type="astring" value', b'name="other" type="astring" value'))
    monkeypatch.setattr(resources, "smf_manifest", lambda: shipped)
    with pytest.raises(SmfError, match="no place for the program"):
        smf_manifest.manifest_with(DEFAULT_PROGRAM)
    shipped.unlink()
    with pytest.raises(SmfError, match="No such file"):
        smf_manifest.manifest_with(DEFAULT_PROGRAM)


def test_a_dtd_without_patterns_gets_a_manifest_without_them(tmp_path: Path) -> None:
    text = DTD.read_text()
    start, end = text.index("<!ELEMENT pg_pattern"), text.index("<!--\n  template\n")
    old = tmp_path / "old.dtd"
    old.write_text((text[:start] + text[end:]).replace("documentation?, pg_pattern*", "documentation?"))
    dtd = old.read_bytes().replace(b"pg_pattern", b"--")
    assert not dtd_valid(SHIPPED, tmp_path, old)
    plain = smf_manifest.manifest_with(DEFAULT_PROGRAM, dtd)
    assert dtd_valid(plain, tmp_path, old)
    assert dtd_valid(plain, tmp_path)
    assert smf_manifest.manifest_with(DEFAULT_PROGRAM, DTD.read_bytes()) == SHIPPED
    kept = [line for line in SHIPPED.decode().splitlines() if line in plain.decode().splitlines()]
    assert "\n".join(kept).count("<manpage ") == 3


# --- the profile


@pytest.mark.parametrize("enabled", [True, False])
def test_profile(enabled: bool, tmp_path: Path) -> None:
    data = smf_manifest.profile(enabled)
    assert dtd_valid(data, tmp_path)
    bundle = ElementTree.fromstring(data)
    assert (bundle.tag, bundle.get("type")) == ("service_bundle", "profile")
    assert [(e.tag, dict(e.attrib)) for e in bundle.iter() if e is not bundle] == [
        ("service", {"name": "site/memproxy", "type": "service", "version": "1"}),
        ("instance", {"name": "default", "enabled": "true" if enabled else "false"}),
    ]
    assert data.count(b'<!DOCTYPE service_bundle SYSTEM "/usr/share/lib/xml/dtd/service_bundle.dtd.1">') == 1


def test_profile_names_the_service_of_the_manifest() -> None:
    service = ElementTree.fromstring(smf_manifest.profile()).find("service")
    assert service is not None
    manifest = ElementTree.fromstring(SHIPPED).find("service")
    assert manifest is not None
    assert service.attrib == manifest.attrib
    assert f"svc:/{service.get('name')}" == smf_manifest.SERVICE
    assert f"{smf_manifest.SERVICE}:default" == smf_manifest.FMRI


def test_profile_is_not_taken_for_a_manifest() -> None:
    with pytest.raises(SmfError, match="is not a manifest"):
        smf_manifest.parse_manifest(smf_manifest.profile())


# --- reading


@pytest.mark.parametrize("name", sorted(set(RECORDED) - BEYOND_US))
def test_recorded_manifests_are_taken_and_refused_as_svccfg_did(name: str) -> None:
    record = RECORDED[name]
    data = record["text"].encode()
    if record["exit"] == 0:
        expected = smf_manifest.Manifest(smf_manifest.FMRI, enabled=False, program=None)
        assert smf_manifest.parse_manifest(data) == expected
    else:
        with pytest.raises(SmfError):
            smf_manifest.parse_manifest(data)


def test_recordings_hold_both_verdicts() -> None:
    ours = [RECORDED[name]["exit"] for name in set(RECORDED) - BEYOND_US]
    assert ours.count(0) == 3
    assert ours.count(1) == 8


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_xmllint_with_the_dtd_judges_as_svccfg_does(name: str, tmp_path: Path) -> None:
    """The oracle of the tests below, held to the recordings: validity against the DTD, nothing more."""
    record = RECORDED[name]
    document = tmp_path / "document.xml"
    document.write_text(record["text"])
    status = subprocess.run(
        ["xmllint", "--noout", "--nonet", "--nowarning", "--dtdvalid", str(DTD), str(document)], capture_output=True
    ).returncode
    said = record["stderr"]
    assert status == (1 if "couldn't parse" in said else 3 if "Document is not valid" in said else 0)


BOMB = (
    '<?xml version="1.0"?>\n<!DOCTYPE service_bundle SYSTEM "' + smf_manifest.DTD_PATH + '" [\n <!ENTITY a0 "ha">\n'
    + "".join(f' <!ENTITY a{n} "&a{n - 1};&a{n - 1};">\n' for n in range(1, 40))
    + ']>\n<service_bundle type="manifest" name="&a39;"/>\n'
)  # fmt: skip


def in_shipped(old: str, new: str) -> bytes:
    text = SHIPPED.decode()
    assert text.count(old) >= 1
    return text.replace(old, new, 1).encode()


HOSTILE = {
    "an entity bomb": (BOMB.encode(), "internal DTD subset"),
    "an external entity": (
        in_shipped('.dtd.1">', '.dtd.1" [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        "internal DTD subset",
    ),
    "an external parameter entity": (
        in_shipped('.dtd.1">', '.dtd.1" [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]>'),
        "internal DTD subset",
    ),
    "an undeclared entity in an attribute": (in_shipped('value="/usr/local/bin', 'value="&x;/usr'), "entity reference"),
    "a processing instruction": (in_shipped("<service ", "<?run me?><service "), "processing instruction"),
    "a CDATA section": (in_shipped("<service ", "<![CDATA[ ]]><service "), "CDATA"),
    "elements nested too deep": (
        in_shipped("<service ", "<a>" * 40 + "</a>" * 40 + "<service "),
        "nested more than 32 deep",
    ),
    "too large": (SHIPPED + b" " * smf_manifest.SIZE_LIMIT, "bytes"),
    "empty": (b"", "not well-formed"),
    "not XML": (b"\x7fELF\x01\x01", "not well-formed"),
    "not UTF-8": (in_shipped("proxy ver", "proxy \xff ver").decode().encode("latin-1"), "not UTF-8"),
    "cut short": (SHIPPED[:-20], "not well-formed"),
    "of another encoding": (SHIPPED.decode().encode("utf-16"), "not UTF-8"),
    "of another encoding without a mark": (SHIPPED.decode().encode("utf-16-le"), "not well-formed"),
    "of another DTD": (in_shipped(".dtd.1", ".dtd.2"), "DOCTYPE"),
    "without DOCTYPE": (SHIPPED.split(b"\n", 2)[2], "DOCTYPE"),
    "another root": (SHIPPED.replace(b"service_bundle type", b"bundle type").replace(b"</service_b", b"</b"), "manif"),
    "two services": (in_shipped("</service_bundle>", '<service name="x"/></service_bundle>'), "exactly one service"),
    "an include": (in_shipped("<service ", '<xi:include href="/etc/x"/><service '), "exactly one service"),
    "no service": (in_shipped("<service ", "<service_ ").replace(b"</service>", b"</service_>"), "one service"),
    "no instance": (in_shipped('<create_default_instance enabled="false"/>', ""), "exactly one instance"),
    "two instances": (in_shipped("<stability", '<instance name="a" enabled="true"/><stability'), "one instance"),
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_hostile_manifests_are_refused(case: str) -> None:
    data, why = HOSTILE[case]
    with pytest.raises(SmfError, match=why) as caught:
        smf_manifest.parse_manifest(data, "/lib/svc/manifest/site/memproxy.xml")
    assert str(caught.value).startswith("/lib/svc/manifest/site/memproxy.xml: ")


def test_an_ampersand_in_a_comment_is_no_entity() -> None:
    assert smf_manifest.parse_manifest(in_shipped("<service ", "<!-- a & b &c; --><service ")).fmri == smf_manifest.FMRI


def test_an_instance_of_its_own_is_read_too() -> None:
    data = in_shipped('<create_default_instance enabled="false"/>', "")
    data = data.replace(b"<stability", b'<instance name="other" enabled="true"/><stability')
    assert smf_manifest.parse_manifest(data) == smf_manifest.Manifest(
        "svc:/site/memproxy:other", enabled=True, program="/usr/local/bin/memproxy-sol"
    )


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SHIPPED) - 1), st.integers(0, 60), st.binary(max_size=12))
@example(0, 0, b"")
def test_a_damaged_manifest_never_gives_a_traceback(start: int, length: int, insertion: bytes) -> None:
    data = SHIPPED[:start] + insertion + SHIPPED[start + length :]
    try:
        manifest = smf_manifest.parse_manifest(data)
    except SmfError:
        return
    assert manifest.fmri.startswith("svc:/")


# --- places

LIB = "/lib/svc/manifest/site"
VAR = "/var/svc/manifest/site"
EARLY = "/lib/svc/manifest/system/early-manifest-import.xml"


def tree(tmp_path: Path, present: list[str]) -> Root:
    for path in present:
        (tmp_path / path.lstrip("/")).mkdir(parents=True)
    return Root(str(tmp_path))


@pytest.mark.parametrize(
    ("release", "distribution", "present", "directory"),
    [
        ("illumos", "OpenIndiana Hipster 2021.04 (powered by illumos)", [LIB, EARLY], LIB),
        ("illumos", "OmniOS v11 r151038", [EARLY], LIB),
        ("11.4", "Oracle Solaris 11.4 SPARC", [LIB], LIB),
        ("11", "", [], LIB),
        ("illumos", "", [], LIB),
        ("10", "Oracle Solaris 10 1/13 s10x_u11wos_24a X86", [], VAR),
        ("10", "", [VAR], VAR),
        ("10", "", [LIB], LIB),
        ("10", "", [EARLY], LIB),
        ("illumos", "SmartOS 20210101T000000Z x86_64", [LIB, EARLY], VAR),
        ("illumos", "Joyent Instance base-64-lts", [LIB], VAR),
    ],
)
def test_place_of_the_manifest(
    release: str, distribution: str, present: list[str], directory: str, tmp_path: Path
) -> None:
    assert smf_manifest.manifest_directory(tree(tmp_path, present), release, distribution) == directory


def test_a_link_in_an_image_does_not_lead_to_this_machine(tmp_path: Path) -> None:
    image = tree(tmp_path / "image", ["/lib/svc"])
    outside = tree(tmp_path / "outside", ["/site"])
    (tmp_path / "image/lib/svc/manifest").symlink_to(outside.path)
    assert smf_manifest.manifest_directory(image, "10") == VAR


def test_place_of_the_profile() -> None:
    assert smf_manifest.profile_path("illumos") == "/etc/svc/profile/site/memproxy.xml"
    assert smf_manifest.profile_path("11.4", "Oracle Solaris 11.4 X86") == "/etc/svc/profile/site/memproxy.xml"
    assert smf_manifest.profile_path("10") is None
    assert smf_manifest.profile_path("illumos", "SmartOS 20210101T000000Z x86_64") is None
