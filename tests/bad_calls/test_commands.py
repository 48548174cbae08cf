"""Bad commands: exit code 2, one line on stderr, nothing changed."""

from __future__ import annotations

import re

import pytest

from fiftyone_persam.cli.main import main

from .cases import check_line
from .world import UNKNOWN_ID, World

SEGMENT = ("segment", "bad-calls", "--method", "persam", "--out-field", "new")

# What is typed ("@name" is a file of the world), and what is said.
COMMANDS = {
    "dataset": (("runs", "list", "bad-call"), "no dataset 'bad-call': choose"),
    "dataset-empty-name": (("runs", "list", ""), "no dataset '': choose"),
    "run-show": (("runs", "show", "bad-calls", "mime"), "no run 'mime': .*did you mean 'mine'"),
    "run-delete": (("runs", "delete", "bad-calls", "../mine"), "no run '../mine': choose"),
    "run-resume": (("runs", "resume", "bad-calls", "foreign"), "no run 'foreign': choose"),
    "run-rename": (("runs", "rename", "bad-calls", "mine", "a.b"), "'a.b' cannot name a field"),
    "no-reference": (SEGMENT, "no reference: give --reference"),
    "two-references": (
        (*SEGMENT, "--reference", UNKNOWN_ID, "--reference-tag", "all"),
        "two kinds of reference: give --reference",
    ),
    "label-of-two": (
        (*SEGMENT, "--reference", "a", "--reference", "b", "--label-id", "c"),
        "--label-id .*: give one",
    ),
    "reference-unknown": ((*SEGMENT, "--reference", UNKNOWN_ID), "no sample with id .*: give"),
    "object-unnamed": ((*SEGMENT, "--object", "abc"), "--object 'abc' has no name: give NAME=ID"),
    "object-and-reference": (
        (*SEGMENT, "--object", "mug=a", "--reference", "b"),
        "--object names each object with its reference: leave",
    ),
    "object-unknown": (
        (*SEGMENT, "--object", f"mug={UNKNOWN_ID}"),
        "object 'mug': .*no sample with id .*: give",
    ),
    "reference-tag": ((*SEGMENT, "--reference-tag", "none"), "the reference is empty: give"),
    "view": ((*SEGMENT, "--view", "best", "--reference", "a"), "no saved view 'best': "),
    "tag": ((*SEGMENT, "--tag", "best", "--reference", "a"), "no photo to segment: "),
    "model": (
        (*SEGMENT, "--reference-tag", "all", "--model", "lite", "--label-field", "boxes"),
        "has 2 labels in 'boxes': choose|no label in 'boxes': ",
    ),
    "evaluate": (("evaluate", "bad-calls", "mine", "--gt-field", "truth"), "no field 'truth': "),
    "evaluate-key": (
        ("evaluate", "bad-calls", "mine", "--eval-key", "a b"),
        "eval_key 'a b' cannot name a field: use",
    ),
    "export-full": (("export", "bad-calls", "mine", "@full"), "full is not empty: choose"),
    "import-missing": (("import", "@nowhere"), "nowhere is not a folder: pass"),
    "import-broken": (("import", "@broken"), "cannot read photo .*01.jpg: "),
    "plugin": (("install-plugin", "--plugins-dir", "@text.png"), "cannot be put into .*: "),
}


@pytest.mark.parametrize(("typed", "says"), COMMANDS.values(), ids=COMMANDS)
def test_commands(
    typed: tuple[str, ...], says: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([world.path(word[1:]) if word.startswith("@") else word for word in typed])
    error = capsys.readouterr().err.strip()
    changes = world.changes()
    assert code == 2
    check_line(error.removeprefix("error: "), says)
    assert not changes


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (("sing",), "invalid choice: 'sing'"),
        ((*SEGMENT, "--batch-size", "many"), "--batch-size: invalid int value: 'many'"),
        ((*SEGMENT, "--mask-value", "red"), "--mask-value: .*'red'"),
        ((*SEGMENT, "--label-type", "boxes"), "--label-type: invalid choice: 'boxes'"),
        (("export", "bad-calls", "mine", "out", "--format", "yolo"), "--format: invalid choice"),
    ],
)
def test_what_argparse_refuses(
    typed: tuple[str, ...], says: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(typed)
    assert ended.value.code == 2
    assert re.search(says, capsys.readouterr().err.splitlines()[-1])
    assert not world.changes()
