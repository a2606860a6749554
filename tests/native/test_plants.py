"""The table of weaknesses, and a sample of the plants: `make plants` has all of them seen by their tests."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import plants
import pytest
from proxied import NATIVE

HERE = Path(__file__).resolve().parent
TABLE = plants.table()
ALL = [plant for row in TABLE for plant in row.plants]
SAMPLE = [plant for plant in ALL if plant.name in ("02-early-blocks-forgotten", "05-name-cut", "22-libc-by-rtld-next")]


def test_every_weakness_has_a_plant_and_every_plant_its_row() -> None:
    assert [row.number for row in TABLE] == list(range(1, 28))
    assert all(row.plants for row in TABLE)
    assert all(plant.tests and plant.gives for plant in ALL)
    assert all(plant.name.startswith(f"{row.number:02d}-") for row in TABLE for plant in row.plants)
    assert {plant.name for plant in ALL} == {path.stem for path in plants.DIRECTORY.glob("*.toml")} - {"table"}


def test_every_test_of_the_table_is_there() -> None:
    for test in {test for plant in ALL for test in plant.tests} | {plants.CONTROL}:
        file, _, name = test.partition("::")
        assert re.search(rf"^def {re.escape(name.partition('[')[0])}\(", (HERE / file).read_text(), re.MULTILINE), test


@pytest.mark.parametrize("plant", ALL, ids=[plant.name for plant in ALL])
def test_plant_has_its_place_in_the_sources(plant: plants.Plant, tmp_path: Path) -> None:
    files = {change.file for change in plant.changes}
    for file in files:
        shutil.copy(NATIVE / file, tmp_path)
    plant.apply(tmp_path)
    assert all((tmp_path / file).read_bytes() != (NATIVE / file).read_bytes() for file in files)


def test_plant_whose_place_is_gone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "exclusions.cc").write_text("nothing of the kind")
    with pytest.raises(LookupError, match="05-name-cut: 0 times in native/exclusions"):
        plants.Plant("05-name-cut", ()).apply(tmp_path)


@pytest.fixture(scope="module")
def workshop(built: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> plants.Workshop:
    return plants.Workshop(tmp_path_factory.mktemp("plants"), built[64].parents[2])


@pytest.mark.parametrize("plant", SAMPLE, ids=[plant.name for plant in SAMPLE])
def test_planted_weakness_is_seen(workshop: plants.Workshop, plant: plants.Plant) -> None:
    verdicts = workshop.verdicts(plant)
    assert plants.is_caught(plant, verdicts), verdicts


def test_plant_that_a_test_does_not_see_is_told(workshop: plants.Workshop) -> None:
    """The runner itself: a test that passes on a planted library is told from one that fails."""
    plant = plants.Plant("05-name-cut", ("test_weaknesses.py::test_comment_is_one_wherever_it_begins",))
    assert not plants.is_caught(plant, workshop.verdicts(plant))


@pytest.mark.parametrize(
    ("cases", "verdict"),
    [
        ([], "absent"),
        ([("x.py::t[64-a]", 64, "passed"), ("x.py::t[64-b]", 64, "failed")], "failed"),
        ([("x.py::t[64-a]", 64, "passed"), ("x.py::t[32-a]", 32, "failed")], "passed"),
        ([("x.py::t[64-a]", 64, "broken"), ("x.py::t[64-b]", 64, "failed")], "broken"),
        ([("x.py::t[64-a]", 64, "passed"), ("x.py::t[64-b]", 64, "hung")], "hung"),
        ([("x.py::t", 0, "failed")], "failed"),
        ([("x.py::other[64]", 64, "failed")], "absent"),
    ],
)
def test_verdict_of_a_test_is_that_of_its_cases(cases: list[tuple[str, int, str]], verdict: str) -> None:
    assert plants.verdict([plants.Case(*case) for case in cases], "x.py::t", 64).word == verdict
