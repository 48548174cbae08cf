"""What CONTRIBUTING.md promises of names is so; its steps are carried out by the toys' test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fiftyone_persam
from fiftyone_persam.curation.handover.formats import EXPORTERS
from fiftyone_persam.datasets import IMPORTERS
from fiftyone_persam.engine import BACKENDS
from fiftyone_persam.personalize import CANDIDATES, LOCATION_PRIORS, METHODS
from fiftyone_persam.registry import Registry
from fiftyone_persam.sam import FEATURE_SOURCES, MODELS, PROPOSERS

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
REGISTRIES = (
    METHODS,
    MODELS,
    BACKENDS,
    EXPORTERS,
    IMPORTERS,
    LOCATION_PRIORS,
    CANDIDATES,
    PROPOSERS,
)


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda one: one.kind)
def test_the_groups_of_entry_points_are_those_of_the_guide(registry: Registry[object]) -> None:
    package, _, name = registry.group.partition(".")
    assert package == "fiftyone_persam" and re.search(rf"[.]{name}\b", GUIDE)


@pytest.mark.parametrize(
    "registry", [*REGISTRIES, FEATURE_SOURCES], ids=lambda registry: registry.kind
)
def test_every_entry_can_be_had_and_has_what_it_must(registry: Registry[object]) -> None:
    assert len(registry) >= 1
    for name in registry:
        entry = registry[name]
        assert all(hasattr(entry, needed) for needed in registry.required)
        assert getattr(entry, "name", name) == name


@pytest.mark.parametrize(
    "what", ["method", "location prior", "model", "back end", "exporter", "importer"]
)
def test_each_addition_takes_about_ten_lines(what: str) -> None:
    section = re.search(rf"## An? {what}\n(.*?)\n## ", GUIDE, re.DOTALL)
    assert section is not None
    (code,) = re.findall(r"```python\n(.*?)```", section[1], re.DOTALL)
    assert len(code.splitlines()) <= 12
    compile(re.sub(r"def (\w+)\(([^)]*)\): \.\.\.", r"def \1(\2): pass", code), what, "exec")
    for module in re.findall(r"fiftyone_persam(?:\.\w+)+", section[1]):
        parts = module.split(".")
        found: object = fiftyone_persam
        for index, part in enumerate(parts[1:], 2):
            try:
                found = getattr(found, part)
            except AttributeError:
                found = __import__(".".join(parts[:index]), fromlist=["x"])


def test_the_changelog_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert versions[0] == "Unreleased" and fiftyone_persam.__version__ in versions
