"""``python -m fiftyone_persam.dreambooth``."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fiftyone_persam.dreambooth import TrainSettings
from fiftyone_persam.dreambooth.__main__ import build_parser, main
from fiftyone_persam.dreambooth.checkpoints import latest_step


def given(model: Path, concept: Path, output: Path, *more: str) -> list[str]:
    needed = ["--data", str(concept), "--model", str(model), "--output", str(output)]
    return [*needed, "--resolution", "32", "--device", "cpu", "--quiet", *more]


def test_every_setting_is_an_option_with_the_same_default() -> None:
    parsed = vars(build_parser().parse_args(["--data", "a", "--model", "b", "--output", "c"]))
    assert (parsed.pop("resume"), parsed.pop("quiet")) == (False, False)
    assert TrainSettings(**parsed) == TrainSettings(Path("a"), Path("b"), Path("c"))
    assert parsed.keys() == {field.name for field in dataclasses.fields(TrainSettings)}


def test_a_training_from_the_command_line(
    model: Path, concept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--steps", "2", "--outside-weight", "0.1", "--no-normalize-by-area", "--rank", "2"]
    assert main(given(model, concept, tmp_path / "out", *options)) == 0
    assert (tmp_path / "out" / "lora" / "pytorch_lora_weights.safetensors").is_file()
    assert "load_lora_weights" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["settings"]["outside_weight"] == 0.1 and record["settings"]["rank"] == 2
    assert {"diffusers", "torch"} <= record["versions"].keys()


def test_ctrl_c_leaves_a_checkpoint_to_go_on_from(
    model: Path, concept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, before = tmp_path / "out", signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        while latest_step(output) is None:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    options = ["--steps", "100000", "--checkpoint-every", "1"]
    assert main(given(model, concept, output, *options)) == 130
    assert signal.getsignal(signal.SIGINT) is before
    step = latest_step(output)
    assert step is not None and f"stopped after {step} of 100000" in capsys.readouterr().out
    assert not (output / "lora").exists()
    assert main(given(model, concept, output, "--steps", str(step + 1), "--resume")) == 0
    assert (output / "lora").is_dir()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--model", "nowhere"], "not a folder"),
        (["--outside-weight", "7"], "outside_weight 7.0"),
        (["--resume"], "no checkpoint"),
    ],
)
def test_errors_are_one_line(
    model: Path,
    concept: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    named: str,
) -> None:
    assert main(given(model, concept, tmp_path / "out", *options)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and named in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(
    model: Path,
    concept: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "peft" else find(name, *a)
    )
    assert main(given(model, concept, tmp_path / "out")) == 2
    assert "pip install peft" in capsys.readouterr().err


def test_help_costs_nothing() -> None:
    code = "import sys\nfrom fiftyone_persam.dreambooth.__main__ import main\ntry: main(['--help'])"
    code += "\nfinally: print(sorted({'torch', 'diffusers', 'fiftyone'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--outside-weight" in done.stdout and done.stdout.rstrip().endswith("[]")
