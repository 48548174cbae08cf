"""The form's chooser of methods, and the options of the chosen one."""

from __future__ import annotations

import re
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types
import pytest

import fiftyone_persam as fp
from fiftyone_persam.personalize import CANDIDATES, LOCATION_PRIORS

from .context import Form

TUNED = ("lora", "adapter", "prompt_tuning", "ssprompt")
OWN = {
    "persam": set(),
    "persam_f": {"scale_tuning", "steps"},
    "lora": {"rank", "steps", "views", "seed"},
    "ssprompt": {"spatial", "semantic", "learn", "steps"},
}


def form(photos: fo.Dataset, method: str, **more: Any) -> Form:
    chosen = {"reference": photos.first().id, "method": method, "label_field": "ground_truth"}
    return Form(photos, "segment_from_reference", chosen | more)


def test_each_method_in_one_sentence_with_its_time(photos: fo.Dataset) -> None:
    shown = form(photos, "persam", more=True)["method"]
    labels = {choice.value: choice.label for choice in shown.view.choices}
    infos = {info.name: info for info in fp.list_methods()}
    assert {"persam_f", "persam", *TUNED} <= set(labels) <= set(infos)
    for name, label in labels.items():
        assert label.startswith(f"{infos[name].title}: {infos[name].help}")
        assert infos[name].help.count(".") == 0
    assert labels["persam"].endswith(" (learns at once)")
    for name in TUNED:
        assert re.search(r" \(learns in about \d+ s and 4 more photos\)$", labels[name])


def options_in(filled: Form) -> set[str]:
    start = "option_"
    names = filled.inputs.type.properties
    return {name.removeprefix(start) for name in names if name.startswith(start)}


@pytest.mark.parametrize("method", OWN)
def test_options_of_the_chosen_method_alone(method: str, photos: fo.Dataset) -> None:
    assert options_in(form(photos, method)) <= {"max_instances"}
    shown = options_in(form(photos, method, more=True))
    own = {option.name for option in {i.name: i for i in fp.list_methods()}[method].options}
    assert OWN[method] <= shown <= own
    assert not shown & (set().union(*OWN.values()) - own)


@pytest.mark.parametrize(("given", "meant"), [("on", True), ("off", False), (None, True)])
def test_a_switch_that_may_be_left_to_the_mode(
    given: str | None, meant: bool, photos: fo.Dataset
) -> None:
    shown = form(photos, "persam_f", more=True)["option_semantic_prompt"]
    assert isinstance(shown.type, types.Enum) and not shown.required
    more: dict[str, Any] = {"more": True, "out_field": "mine", "option_steps": 1}
    if given is not None:
        more["option_semantic_prompt"] = given
    form(photos, "persam_f", **more).execute()
    assert fp.load_run(photos, "mine").record.parameters.options["semantic_prompt"] is meant


@pytest.mark.parametrize(
    ("option", "registry"), [("location_prior", LOCATION_PRIORS), ("candidates", CANDIDATES)]
)
def test_names_of_a_registry_are_a_choice(option: str, registry: Any, photos: fo.Dataset) -> None:
    """Also a name that was added when the options had been read."""
    registry.register(registry[next(iter(registry))], "added")
    try:
        shown = form(photos, "persam", more=True)[f"option_{option}"]
        assert shown.type.values == list(registry) and "added" in registry
    finally:
        registry.unregister("added")


@pytest.mark.parametrize(
    ("together", "says"),
    [
        ({"option_max_instances": 3}, "finds one object, as the released code"),
        ({"option_candidates": "proposals"}, "use mode='corrected' for candidates='proposals'"),
        ({"option_location_prior": "parts"}, "locates the object as the released code does"),
        ({"option_positive_points": 2}, "prompts with one positive point"),
    ],
)
def test_options_that_cannot_be_had_together(
    together: dict[str, Any], says: str, photos: fo.Dataset
) -> None:
    """Said in the form, before anything runs."""
    assert form(photos, "persam", more=True, **together).errors == []
    (error,) = form(photos, "persam", more=True, option_mode="reference", **together).errors
    assert says in error


def test_options_come_in_groups(photos: fo.Dataset) -> None:
    shown = form(photos, "persam_f", more=True)
    names = list(shown.inputs.type.properties)
    headers = [name for name in names if name.endswith("_header")]
    assert headers == [
        f"{name}_header" for name in ("found", "placed", "learnt", "decoded", "written", "machine")
    ]
    for name, group in (
        ("option_presence_threshold", "found"),
        ("compare_photos", "found"),
        ("option_location_prior", "placed"),
        ("features", "placed"),
        ("option_steps", "learnt"),
        ("option_mode", "decoded"),
        ("similarity", "written"),
        ("cache", "machine"),
    ):
        before = [one for one in headers if names.index(one) < names.index(name)]
        assert before[-1] == f"{group}_header", name
    assert names.index("option_max_instances") < names.index("more") < names.index(headers[0])
