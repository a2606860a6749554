"""Candidates: crle's files are what a plan puts into force, and a second install changes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from memproxy_sol import candidate, change, crle, record
from memproxy_sol.abi import ABIS, X86
from memproxy_sol.change import Target, Wishes
from memproxy_sol.commands import ENVIRONMENT, Ran, Shell
from memproxy_sol.errors import CrleError, HostError
from memproxy_sol.ld_config import decode, encode, layout_for
from memproxy_sol.plan import Plan
from memproxy_sol.policy import Policy
from memproxy_sol.root import Root
from memproxy_sol.steps import ReplaceFile
from tests.images import CONFIG, Image


class Writes(Shell):
    """A crle that writes what its options say, as version `version`."""

    def __init__(self, root: Root, version: int = 4, present: bool = True, tail: bytes = b"") -> None:
        self.root, self.version, self.present, self.tail = root, version, present, tail

    def run(self, command: Sequence[str], *, seconds: float = 30, environment: Mapping[str, str] = ENVIRONMENT) -> Ran:
        bits = 64 if "-64" in command else 32
        options = [word for word in command[1:] if word != "-64"]
        assert options[0] == "-c"
        made = crle.create(tuple(zip(options[2::2], options[3::2])), layout_for(X86, bits)).config
        Path(self.root.host_path(options[1])).write_bytes(encode(replace(made, version=self.version)) + self.tail)
        return Ran(tuple(command), 0, "", "")

    def has(self, program: str) -> bool:
        return self.present


@pytest.fixture
def root(image: Image) -> Root:
    (image / "var/run").mkdir(mode=0o755)
    return Root(str(image.path))


def planned(image: Image, root: Root, release: str = "illumos") -> Plan:
    allocators = tuple(str(image.objects / d / "liballoc.so") for d in ("", "64"))
    plan = change.plan_install(Target(root), Wishes(Policy(), allocators, libraries=str(image.objects)))
    return replace(plan, facts=replace(plan.facts, release=release))


def steps(plan: Plan) -> dict[str, ReplaceFile]:
    return {step.path: step for step in plan.steps if isinstance(step, ReplaceFile)}


def test_crle_writes_the_bytes_that_go_live(image: Image, root: Root) -> None:
    plan = planned(image, root)
    made = candidate.candidates(Writes(root), plan)
    changed = candidate.with_candidates(plan, made)
    assert changed == plan  # on illumos crle's bytes are our encoder's
    for bits in (32, 64):
        state = root.read(made[ABIS[bits].config_path].path)
        assert state is not None
        assert (state.data, state.mode, made[ABIS[bits].config_path].writer) == (
            made[ABIS[bits].config_path].data,
            0o644,
            "crle",
        )
        assert made[ABIS[bits].config_path].path == f"/var/run/memproxy/candidate/ld.config.{bits}"
    assert os.stat(image / "var/run/memproxy/candidate").st_mode & 0o7777 == 0o755
    assert not (image / CONFIG[32]).exists()
    candidate.discard(root)
    assert not (image / "var/run/memproxy/candidate").exists()


def test_other_bytes_are_in_the_steps_and_in_the_record(image: Image, root: Root) -> None:
    plan = planned(image, root, "11.4")
    changed = candidate.with_candidates(plan, candidate.candidates(Writes(root, version=3), plan))
    after = {path: step.after for path, step in steps(changed).items()}
    known = record.decode(after[record.RECORD_PATH].data)  # type: ignore[union-attr]
    for bits in (32, 64):
        state = after[ABIS[bits].config_path]
        assert state is not None
        assert decode(state.data).version == 3
        assert known.abis[bits].written == record.digest(state.data)
    change.carry_out(Target(root), changed)
    assert image.run("verify") == 0, image.out


def test_a_second_install_changes_nothing_though_crles_bytes_are_not_ours(image: Image, root: Root) -> None:
    plan = planned(image, root, "11.4")
    change.carry_out(Target(root), candidate.with_candidates(plan, candidate.candidates(Writes(root, version=3), plan)))
    again = planned(image, root, "11.4")
    assert set(steps(again)) == {"/var/ld/ld.config", "/var/ld/64/ld.config", record.RECORD_PATH}
    again = candidate.with_candidates(again, candidate.candidates(Writes(root, version=3), again))
    assert steps(again) == {}


def test_an_abi_that_stays_has_no_candidate(image: Image, root: Root) -> None:
    change.carry_out(Target(root), planned(image, root))
    (image / CONFIG[64]).unlink()
    plan = planned(image, root)
    (image / "var/run/memproxy/candidate").mkdir(parents=True)
    (image / "var/run/memproxy/candidate/ld.config.32").write_bytes(b"of another plan")
    assert list(candidate.candidates(Writes(root), plan)) == [ABIS[64].config_path]
    assert not (image / "var/run/memproxy/candidate/ld.config.32").exists()


def test_without_crle_our_encoder_writes(image: Image, root: Root) -> None:
    plan = planned(image, root)
    made = candidate.candidates(Writes(root, present=False), plan)
    changed = candidate.with_candidates(plan, made)
    assert changed.steps == plan.steps
    assert [f.identifier for f in changed.findings].count("crle-missing") == 1
    assert made[ABIS[64].config_path].writer == "memproxy-sol"
    assert root.read(made[ABIS[64].config_path].path).data == made[ABIS[64].config_path].data  # type: ignore[union-attr]


def test_what_crle_has_no_options_for_our_encoder_writes(image: Image, root: Root) -> None:
    twice = crle.create((("-l", "/lib:/usr/lib"),), layout_for(X86, 32)).config
    twice = replace(twice, library_path=("/lib", "/usr/lib", "/opt/x", "/opt/x"))
    image.write(CONFIG[32], encode(twice))
    plan = planned(image, root)
    made = candidate.candidates(Writes(root), plan)
    assert (made[ABIS[32].config_path].writer, made[ABIS[64].config_path].writer) == ("memproxy-sol", "crle")
    assert [f.identifier for f in made[ABIS[32].config_path].findings] == ["crle-not-used"]
    assert decode(made[ABIS[32].config_path].data).library_path == ("/lib", "/usr/lib", "/opt/x", "/opt/x")


def test_a_crle_that_writes_something_else_stops_it_all(image: Image, root: Root) -> None:
    with pytest.raises(CrleError, match="not the format's"):
        candidate.candidates(Writes(root, tail=bytes(4)), planned(image, root))


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_run_directory_that_is_none(kind: str, image: Image, root: Root) -> None:
    place = image / "var/run/memproxy"
    place.write_text("") if kind == "file" else place.symlink_to("/tmp")
    with pytest.raises(HostError, match="/var/run/memproxy: is not a directory of root's"):
        candidate.candidates(Writes(root), planned(image, root))


def test_a_run_directory_with_another_mode_is_mended(image: Image, root: Root) -> None:
    (image / "var/run/memproxy").mkdir()
    (image / "var/run/memproxy").chmod(0o777)
    candidate.candidates(Writes(root), planned(image, root))
    assert (image / "var/run/memproxy").stat().st_mode & 0o7777 == 0o755
