"""``python -m fiftyone_persam.dreambooth``: train a diffusion model on a masked set of photos.

    python -m fiftyone_persam.dreambooth --data set --model stable-diffusion-v1-5 --output mug

The loss sees the object only; what is behind it is not learned. The set is what
`fiftyone-persam export-dreambooth` or `fiftyone_persam.export_dreambooth` has written.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import PersamError
from .settings import METHODS, PRECISIONS, SCHEDULES, TrainSettings

_DEFAULTS = {field.name: field.default for field in dataclasses.fields(TrainSettings)}


def main(given: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0; 2 where something that was given, or the machine, kept it from running, with one line on
        stderr; 130 after Ctrl-C or SIGTERM, with a checkpoint to go on from.
    """
    options = vars(build_parser().parse_args(given))
    resume, quiet = options.pop("resume"), options.pop("quiet")
    try:
        settings = TrainSettings(**options)
        _silence_libraries()
        from .training import train

        with _Interrupt() as interrupt:
            trained = train(settings, resume, stop=lambda: interrupt.asked, progress=not quiet)
    except PersamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0 if trained.folder else 130


def build_parser() -> argparse.ArgumentParser:
    """The command's options, which are those of `TrainSettings`."""
    parser = argparse.ArgumentParser(
        prog="python -m fiftyone_persam.dreambooth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    yes_no = argparse.BooleanOptionalAction
    _add(parser, "data", "folder that export_dreambooth has written", required=True)
    _add(parser, "model", "Stable Diffusion 1.x or 2.x folder, diffusers' layout", required=True)
    _add(parser, "output", "new folder for what is trained", required=True)
    _add(parser, "variant", "of the model's files, such as fp16")

    what = parser.add_argument_group("what is trained")
    _add(what, "method", "adapters, or all of the UNet", choices=METHODS)
    _add(what, "rank", "of the LoRA matrices", type=int)
    _add(what, "train-text-encoder", "train the text encoder as well", action=yes_no)

    loss = parser.add_argument_group("the loss")
    _add(loss, "masked", "weigh the loss by the masks", action=yes_no)
    _add(loss, "outside-weight", "its weight outside of the mask; 0 as in the paper", type=float)
    _add(loss, "normalize-by-area", "divide by the mask's area", action=yes_no)
    _add(loss, "class-prompt", 'prior preservation: "a photo of a mug"')
    _add(loss, "class-data", "folder of class images; missing ones are generated")
    _add(loss, "class-images", "how many class images", type=int)
    _add(loss, "prior-weight", "of the class images' loss", type=float)

    how = parser.add_argument_group("how it is trained")
    _add(how, "resolution", "of the square photos, in pixels", type=int)
    _add(how, "steps", "optimizer steps", type=int)
    _add(how, "batch-size", "photos per forward pass", type=int)
    _add(how, "gradient-accumulation", "forward passes per step", type=int)
    _add(how, "learning-rate", "1e-4 for LoRA, 5e-6 for the UNet if left out", type=float)
    _add(how, "text-learning-rate", "of the text encoder", type=float)
    _add(how, "schedule", "of the learning rate", choices=SCHEDULES)
    _add(how, "warmup-steps", "in which the learning rate rises", type=int)
    _add(how, "weight-decay", "of AdamW", type=float)
    _add(how, "max-grad-norm", "gradients are clipped to it", type=float)
    _add(how, "precision", "bf16 on CUDA devices if auto", choices=PRECISIONS)
    _add(how, "gradient-checkpointing", "less memory, more time", action=yes_no)
    _add(how, "seed", "of everything random", type=int)
    _add(how, "device", "auto, cpu, cuda, mps")

    along = parser.add_argument_group("along the way")
    _add(along, "checkpoint-every", "steps; 0 for the end only", type=int)
    _add(along, "keep-checkpoints", "how many of the latest", type=int)
    _add(along, "sample-every", "steps between grids of samples; 0 for none", type=int)
    along.add_argument(
        "--sample-prompt",
        dest="sample_prompts",
        action="append",
        default=[],
        metavar="TEXT",
        help="a row of the grid; repeatable; the first photo's caption if left out",
    )
    _add(along, "sample-count", "images in a row", type=int)
    _add(along, "sample-steps", "denoising steps", type=int)
    _add(along, "guidance-scale", "of samples and class images", type=float)
    along.add_argument("--resume", action="store_true", help="go on from the latest checkpoint")
    along.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _add(group: Any, name: str, text: str, **options: Any) -> None:
    if not options.get("required"):
        options["default"] = _DEFAULTS[name.replace("-", "_")]
        shown = options["default"]
        if shown is not None and not isinstance(shown, bool):
            text = f"{text} (default: {shown})"
    group.add_argument(f"--{name}", help=text, **options)


def _silence_libraries() -> None:
    """No bars of the libraries' own between ours."""
    from .parts import check_extra

    check_extra()
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()


class _Interrupt:
    """Ctrl-C and SIGTERM end a training after its step; a second one ends it at once."""

    asked = False

    def __enter__(self) -> _Interrupt:
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *args: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


if __name__ == "__main__":
    sys.exit(main())
