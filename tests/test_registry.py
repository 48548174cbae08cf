"""Names that others can add, and options that are said once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from fiftyone_persam.errors import PersamError
from fiftyone_persam.options import Option, check_names, options_of
from fiftyone_persam.registry import Registry


class Toy:
    name = "toy"

    def play(self) -> None: ...


@pytest.fixture
def toys() -> Registry[Any]:
    return Registry("toy", {"ball": "tests.test_registry:Toy"}, required=("play",))


def test_entries_come_in_order_and_are_imported_when_asked_for(toys: Registry[Any]) -> None:
    toys.register(Toy)
    toys.register("json:JSONDecoder.decode", name="late")  # imported by nobody yet
    assert list(toys) == ["ball", "toy", "late"] and len(toys) == 3 and "toy" in toys
    assert toys["ball"] is Toy and toys["toy"] is Toy
    assert toys.get("kite") is None and toys.get("ball") is Toy
    toys.unregister("toy")
    assert "toy" not in toys


def test_register_is_a_decorator(toys: Registry[Any]) -> None:
    @toys.register
    class Kite(Toy):
        name = "kite"

    assert toys["kite"] is Kite


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (
            lambda toys: toys["bal"],
            "toy 'bal' is not known: choose one of ball; did you mean 'ball",
        ),
        (lambda toys: toys[3], "toy int is not known: choose one of ball"),
        (lambda toys: toys[["ball"]], "toy list is not known: "),
        (lambda toys: toys.register(Toy, name="ball"), "there is a toy 'ball' already: "),
        (lambda toys: toys.register(object()), "None cannot name a toy: use letters"),
        (lambda toys: toys.register(Toy, name="a b"), "'a b' cannot name a toy: "),
        (lambda toys: toys.register(Toy, name="../up"), "cannot name a toy: "),
        (lambda toys: toys.register(object(), name="stone"), "toy 'stone' lacks play: "),
        (lambda toys: toys.unregister("kite"), "toy 'kite' is not known"),
        (
            lambda toys: (toys.register("nowhere.at_all:Toy", name="ghost"), toys["ghost"]),
            "toy 'ghost' cannot be imported from 'nowhere.at_all:Toy' .No module.*: mend",
        ),
        (
            lambda toys: (toys.register("json:JSONDecoder", name="odd"), toys["odd"]),
            "toy 'odd' lacks play",
        ),
    ],
)
def test_what_is_refused(toys: Registry[Any], act: Any, says: str) -> None:
    with pytest.raises(PersamError, match=says) as caught:
        act(toys)
    assert "\n" not in str(caught.value)


def test_threads_may_register_and_look_up_at_once(toys: Registry[Any]) -> None:
    refused = []

    def add(number: int) -> None:
        try:
            toys.register(Toy, name=f"toy{number % 20}")
            assert toys[f"toy{number % 20}"] is Toy and list(toys)
        except PersamError as error:
            refused.append(error)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(toys) == 21 and len(refused) == 20


def test_another_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    """An installed package's method has its name before anything of it is imported."""
    (tmp_path / "toy_package.py").write_text("raise SystemExit('imported too early')\n")
    about = tmp_path / "toy_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[fiftyone_persam.methods]\ntoy = toy_package:Toy\npersam = toy_package:Thief\n"
    )
    code = (
        "from fiftyone_persam.personalize import METHODS, PerSAM\n"
        "assert list(METHODS)[:2] == ['persam_f', 'persam'] and list(METHODS)[-1] == 'toy'\n"
        "assert METHODS['persam'] is PerSAM\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{Path(__file__).resolve().parents[1]}:{tmp_path}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "there is one of this name already" in done.stderr


Speed = Annotated[float, Option("how fast", low=0, high=2, above=True)]


class Car:
    def __init__(
        self,
        sam: Any,
        gear: Literal["low", "high"] = "low",
        *,
        speed: Speed = 1.0,
        limit: Speed | None = None,
        wheels: Annotated[int, Option("how many", low=1)] = 4,
        lights: bool = True,
        note: str = "",
    ) -> None: ...


OPTIONS = {option.name: option for option in options_of(Car)}


def test_options_are_read_from_the_signature() -> None:
    assert list(OPTIONS) == ["gear", "speed", "limit", "wheels", "lights", "note"]
    kinds = {name: (one.kind, one.default, one.optional) for name, one in OPTIONS.items()}
    assert kinds == {
        "gear": (str, "low", False),
        "speed": (float, 1.0, False),
        "limit": (float, None, True),
        "wheels": (int, 4, False),
        "lights": (bool, True, False),
        "note": (str, "", False),
    }
    assert OPTIONS["gear"].choices == ("low", "high") and OPTIONS["speed"].help == "how fast"
    assert OPTIONS["limit"].help == "how fast"
    assert OPTIONS["speed"].describe() == "a number above 0, at most 2, default 1.0"
    assert OPTIONS["wheels"].describe() == "a whole number, at least 1, default 4"
    assert OPTIONS["gear"].describe() == "'low' or 'high', default 'low'"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("gear", "high", "high"),
        ("speed", "0.5", 0.5),
        ("speed", "2", 2.0),
        ("limit", "none", None),
        ("wheels", "3", 3),
        ("lights", "off", False),
        ("lights", "True", True),
        ("note", "none", "none"),
    ],
)
def test_a_text_becomes_a_value(name: str, text: str, value: Any) -> None:
    found = OPTIONS[name].parse(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("gear", "third", "gear 'third' is not known: use 'low' or 'high'"),
        ("gear", None, "gear None is not known: use"),
        ("gear", ["low"], "gear .'low'. is not known: use"),
        ("speed", 0, "speed 0 is out of range: give a number above 0, at most 2"),
        ("speed", float("nan"), "speed nan is out of range: "),
        ("speed", True, "speed True is out of range: "),
        ("speed", None, "speed None is out of range: "),
        ("limit", 3, "limit 3 is out of range: "),
        ("wheels", 2.5, "wheels 2.5 is out of range: give a whole number, at least 1"),
        ("lights", "off", "lights 'off' is not a switch: give True or False"),
        ("note", 3, "note 3 is not a text: give a text"),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: Any, says: str) -> None:
    with pytest.raises(PersamError, match=says):
        OPTIONS[name].check(value)


@pytest.mark.parametrize(("name", "text"), [("wheels", "2.5"), ("lights", "maybe"), ("speed", "")])
def test_a_text_that_means_nothing_is_refused(name: str, text: str) -> None:
    with pytest.raises(PersamError, match=name):
        OPTIONS[name].parse(text)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(PersamError, match=r"'sped' is not an option of car: .*'speed'"):
        check_names("car", options_of(Car), ["gear", "sped"])
