"""A whole training: steps, checkpoints, samples, log, and the result."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import PersamError
from .checkpoints import latest_step, load_checkpoint, save_checkpoint
from .parts import save_trained
from .sampling import sample_grid
from .settings import TrainSettings
from .trainer import CLASS_FOLDER, Trainer

LOG, RECORD, SAMPLES = "log.jsonl", "training.json", "samples"


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        folder: what was trained: for ``load_lora_weights`` (LoRA) or ``from_pretrained`` (UNet);
            None if it was stopped before its last step.
        step: optimizer steps so far.
        losses: the mean loss of each step of this call.
    """

    folder: Path | None
    step: int
    losses: list[float]


def train(
    settings: TrainSettings,
    resume: bool = False,
    say: Callable[[str], None] = print,
    stop: Callable[[], bool] = lambda: False,
    progress: bool = True,
) -> Trained:
    """Train, and write what was trained to ``settings.output``.

    Args:
        settings: what to train on and how.
        resume: go on from the latest checkpoint in ``settings.output``. A training that was
            stopped and resumed ends with the same weights as one that was not (exactly on a CPU;
            on a GPU as far as its kernels repeat themselves).
        say: told of what happens, in lines.
        stop: asked after each step; True writes a checkpoint and ends.
        progress: show a bar.

    Raises:
        PersamError: something cannot be used, ``output`` is occupied, or the loss is not finite.
    """
    _check_output(settings, resume)
    try:
        trainer = Trainer(settings, say)
        if resume:
            trainer.restore(load_checkpoint(settings.output))
            say(f"resumed after {trainer.step} steps")
        return _run(trainer, say, stop, progress)
    except torch.cuda.OutOfMemoryError:
        raise PersamError(
            f"{settings.resolution} pixels in batches of {settings.batch_size} do not fit the "
            "device's memory: give a smaller batch size or resolution, or gradient checkpointing"
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PersamError(
            f"{settings.output} cannot be written ({reason}): mend that, then resume"
        ) from None


def _run(
    trainer: Trainer, say: Callable[[str], None], stop: Callable[[], bool], progress: bool
) -> Trained:
    from tqdm.auto import tqdm

    settings = trainer.settings
    settings.output.mkdir(parents=True, exist_ok=True)
    _record(trainer)
    log = _open_log(settings.output, trainer.step)
    count = sum(value.numel() for value in trainer.parameters().values())
    say(f"{len(trainer)} photos, {count:,} trained weights, on {trainer.device}")
    losses: list[float] = []
    saved = trainer.step
    with (
        log,
        tqdm(total=settings.steps, initial=trainer.step, disable=not progress, unit="step") as bar,
    ):
        while trainer.step < settings.steps:
            rate = trainer.learning_rate
            losses.append(trainer.advance())
            log.write(
                json.dumps({"step": trainer.step, "loss": losses[-1], "learning_rate": rate}) + "\n"
            )
            bar.update()
            bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
            if settings.checkpoint_every and trainer.step % settings.checkpoint_every == 0:
                saved = _save(trainer)
            if settings.sample_every and trainer.step % settings.sample_every == 0:
                _write_samples(trainer)
            if stop():
                break
        if saved != trainer.step:
            _save(trainer)
    if trainer.step < settings.steps:
        say(f"stopped after {trainer.step} of {settings.steps} steps: go on with --resume")
        return Trained(None, trainer.step, losses)
    folder = save_trained(trainer.pipe, trainer.trained, settings)
    how = "load_lora_weights" if settings.method == "lora" else "from_pretrained"
    say(f"written: {folder} (for diffusers' {how})")
    return Trained(folder, trainer.step, losses)


def _check_output(settings: TrainSettings, resume: bool) -> None:
    output = settings.output
    if output.exists() and not output.is_dir():
        raise PersamError(f"output {output} is a file: give a folder")
    if not resume:
        # Class images of a training that ended before its first step do not count.
        if output.is_dir() and any(path.name != CLASS_FOLDER for path in output.iterdir()):
            raise PersamError(
                f"output {output} is not empty: choose another folder, or resume the training in it"
            )
        return
    step = latest_step(output)
    if step is None:
        raise PersamError(f"{output} has no checkpoint to resume from: start without resuming")
    if step >= settings.steps:
        raise PersamError(
            f"the training in {output} has made all of {settings.steps} steps: give more steps to "
            "go on"
        )


def _save(trainer: Trainer) -> int:
    save_checkpoint(
        trainer.settings.output, trainer.checkpoint(), trainer.settings.keep_checkpoints
    )
    return trainer.step


def _write_samples(trainer: Trainer) -> None:
    settings = trainer.settings
    prompts = settings.sample_prompts or trainer.captions[:1]
    grid = sample_grid(trainer.pipe, prompts, settings, trainer.autocast)
    folder = settings.output / SAMPLES
    folder.mkdir(exist_ok=True)
    part = folder / f".step-{trainer.step:06}.part"
    grid.save(part, format="PNG")
    os.replace(part, folder / f"step-{trainer.step:06}.png")


def _open_log(output: Path, step: int) -> Any:
    """The log, without steps that a resumed training makes again."""
    path = output / LOG
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() and step else []
    kept = [line for line in lines if _step_of(line) <= step]
    part = output / f".{LOG}.part"
    part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    os.replace(part, path)
    return path.open("a", buffering=1, encoding="utf-8")  # line by line, to be watched


def _step_of(line: str) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # cut off in the middle


def _record(trainer: Trainer) -> None:
    import diffusers
    import transformers

    from .. import __version__

    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in dataclasses.asdict(trainer.settings).items()
    }
    versions = {
        "fiftyone-persam": __version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    content = json.dumps({"settings": settings, "versions": versions}, indent=2)
    (trainer.settings.output / RECORD).write_text(content, encoding="utf-8")
