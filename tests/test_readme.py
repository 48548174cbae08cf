"""What the README shows can be called, typed, opened: names, arguments, options, files, anchors."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.zoo as foz
import pytest

import fiftyone_persam as fp
from fiftyone_persam.cli.parser import build_parser
from fiftyone_persam.dreambooth.__main__ import build_parser as trainer_parser
from fiftyone_persam.engine import DevicesBackend, RayBackend
from fiftyone_persam.personalize import method_info

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
KNOWN = {"fo": fo, "foz": foz, "fp": fp, "DevicesBackend": DevicesBackend, "RayBackend": RayBackend}


def snippets(language: str) -> list[str]:
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", README, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


def shown(node: ast.AST) -> Any:
    """What a dotted name in a snippet is, where it begins with a package."""
    if isinstance(node, ast.Name):
        return KNOWN.get(node.id)
    if isinstance(node, ast.Attribute):
        base = shown(node.value)
        return None if base is None else getattr(base, node.attr)
    return None


def calls(block: str) -> list[tuple[str, Any, ast.Call]]:
    made = []
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Call) and (function := shown(node.func)) is not None:
            made.append((ast.unparse(node), function, node))
    return made


CALLS = [one for block in snippets("python") for one in calls(block)]
INLINE = sorted(set(re.findall(r"`(fp\.[A-Za-z_.]+)", README)))
COMMANDS = [
    line.split(" #")[0].strip()
    for block in snippets("bash")
    for line in block.splitlines()
    if re.match(r"\s*(fiftyone-persam|python -m fiftyone_persam)", line)
]
MODULES = sorted(set(re.findall(r"python\s+-m\s+((?:benchmarks|fiftyone_persam)[\w.]*)", README)))
LINKS = sorted(set(re.findall(r"\]\((?!https?:)([^)\s]+)\)", README)))


@pytest.mark.parametrize(("text", "function", "node"), CALLS, ids=[text for text, *_ in CALLS])
def test_arguments_of_a_snippet_exist(text: str, function: Any, node: ast.Call) -> None:
    names = {word.arg: None for word in node.keywords if word.arg}
    values = [None for one in node.args if not isinstance(one, ast.Starred)]
    signature = inspect.signature(function)
    signature.bind(*values, **names)
    if function is fp.segment:  # which takes any option, and has its method refuse it
        method = next(
            (ast.literal_eval(w.value) for w in node.keywords if w.arg == "method"), "persam_f"
        )
        options = {option.name for option in method_info(method).options}
        assert set(names) - set(signature.parameters) <= options


@pytest.mark.parametrize("name", INLINE)
def test_names_in_the_text_exist(name: str) -> None:
    assert shown(ast.parse(name.rstrip("."), mode="eval").body) is not None


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str) -> None:
    first, *words = shlex.split(command)
    if first == "python":
        assert words[:2] == ["-m", "fiftyone_persam.dreambooth"]
        trainer_parser().parse_args(words[2:])
    else:
        build_parser().parse_args(words)


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_there(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


def test_options_of_benchmarks_are_there() -> None:
    declared = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    used = re.findall(r"python\s+-m\s+benchmarks[\w.]*([^`)]*)", README)
    options = {word for text in used for word in re.findall(r"--[a-z-]+", text)}
    assert options and all(f'"{option}"' in declared for option in options)


def test_files_and_headings_that_are_linked_to_are_there() -> None:
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
    for link in LINKS:
        file, _, anchor = link.partition("#")
        assert (ROOT / file).exists() if file else anchor in anchors, link
