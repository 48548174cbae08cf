"""Train sam_lite. One command reproduces the checkpoint:

    python -m training.train --data ../shared/data/train --work .data/training

It packs the photos if that has not been done, trains (in bfloat16, on a GPU where there is one,
else on the CPU), writes a resumable state and an exported checkpoint every few minutes, and goes on
where it stopped when called again.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn

from fiftyone_persam.sam.lite import IMAGE_SIZE, STRIDE, build_sam_lite
from training.bank import Bank, load_bank
from training.compose import compose
from training.export import export
from training.pack import pack
from training.pretrained import load_pretrained
from training.rounds import rounds

EMA_DECAY = 0.998
WARMUP = 100
WEIGHT_DECAY = 0.05
PHASES = ("256x1500x6x48x1", "320x1700x5x34x3+trunk", "448x560x4x26x3+trunk")
TRUNK_RATE = 0.1  # of the learning rate, for the trunk's stages above stride 8


@dataclass(frozen=True)
class Phase:
    """``steps`` steps at ``side`` pixels with ``pairs`` pairs of photos.

    A step takes ``prompts`` prompts through ``rounds`` rounds each.
    """

    side: int
    steps: int
    pairs: int
    prompts: int
    rounds: int
    train_trunk: bool


def parse_phase(text: str) -> Phase:
    """``256x1200x6x48x1`` or ``512x1500x4x32x3+trunk`` -> a Phase.

    Raises:
        argparse.ArgumentTypeError: the text is not a phase, or a number does not make sense.
    """
    numbers, _, suffix = text.partition("+")
    try:
        side, steps, pairs, prompts, rounds = (int(part) for part in numbers.split("x"))
    except ValueError:
        side = steps = pairs = prompts = rounds = 0
    if min(side, steps, pairs, prompts, rounds) < 1 or side % 32 or suffix not in ("", "trunk"):
        raise argparse.ArgumentTypeError(
            f"phase {text!r} is not SIDExSTEPSxPAIRSxPROMPTSxROUNDS, such as {PHASES[0]}, or that "
            "with +trunk; the side is a multiple of 32"
        )
    return Phase(side, steps, pairs, prompts, rounds, suffix == "trunk")


def set_input_size(sam: Sam, side: int) -> None:
    """Make a fully convolutional encoder and its prompt encoder work at another input size."""
    grid = side // STRIDE
    sam.image_encoder.img_size = side
    sam.prompt_encoder.input_image_size = (side, side)
    sam.prompt_encoder.image_embedding_size = (grid, grid)
    sam.prompt_encoder.mask_input_size = (4 * grid, 4 * grid)


@torch.no_grad()
def initialize_decoder(sam: Sam) -> None:
    """Start the mask decoder with unit-scale signals and with attention that is already local.

    PyTorch's defaults shrink a signal in every layer; the mask logits, a product of two shrunken
    signals, then start near zero, and training rests on a plateau. And with equal query and key
    projections the inner product of two positional encodings, which is large where they are near,
    survives the projection: a point attends to its surroundings from the start.
    """
    decoder = sam.mask_decoder
    for module in decoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for head in (*decoder.output_hypernetworks_mlps, decoder.iou_prediction_head):
        for layer in head.layers[:-1]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        head.layers[-1].weight.mul_(0.3)
    for layer in decoder.output_upscaling:
        if isinstance(layer, nn.ConvTranspose2d):
            # Each output of a transposed convolution of stride 2 and size 2 sums over the input
            # channels alone.
            nn.init.normal_(layer.weight, std=(2 / layer.in_channels) ** 0.5)
    for name, module in decoder.transformer.named_modules():
        if isinstance(module, Attention) and not name.endswith("self_attn"):
            module.q_proj.weight.mul_(1.5)
            module.k_proj.weight.copy_(module.q_proj.weight)


class Trainer:
    """The model, its moving average and its optimiser; `step` does one step of a phase."""

    def __init__(self, bank: Bank, phases: list[Phase], rate: float, seed: int) -> None:
        self.bank, self.phases, self.rate, self.seed = bank, phases, rate, seed
        self.device = bank.device
        torch.manual_seed(seed)
        self.sam = build_sam_lite().to(self.device)
        initialize_decoder(self.sam)
        load_pretrained(self.sam.image_encoder.trunk)
        self.sam.image_encoder.trunk.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.sam)
        trunk = self.sam.image_encoder.trunk
        low = {id(p) for part in (trunk.stem, *trunk.stages[:3]) for p in part.parameters()}
        for parameter in self.sam.parameters():
            parameter.requires_grad_(id(parameter) not in low)
        high = [p for stage in trunk.stages[3:] for p in stage.parameters()]
        inner = {id(p) for p in high}
        others = [p for p in self.sam.parameters() if p.requires_grad and id(p) not in inner]
        self.optimizer = torch.optim.AdamW(
            [{"params": others, "scale": 1.0}, {"params": high, "scale": TRUNK_RATE}],
            lr=rate, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY,
        )  # fmt: skip
        self.done = 0

    @property
    def total(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def phase(self) -> Phase:
        end = 0
        for phase in self.phases:
            end += phase.steps
            if self.done < end:
                return phase
        return self.phases[-1]

    def step(self) -> dict[str, float]:
        phase = self.phase()
        set_input_size(self.sam, phase.side)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.done)
        scenes = compose(self.bank, phase.pairs, phase.side, generator)
        images = ((scenes.images - 127) / 128).contiguous(memory_format=torch.channels_last)
        figures = {}
        with torch.autocast(self.device.type, torch.bfloat16):
            embeddings = self._encode(images, phase.train_trunk)
            loss = torch.zeros((), device=self.device)
            for name, part, figure in rounds(
                self.sam, embeddings, scenes, phase.prompts, phase.rounds, generator
            ):
                loss = loss + part
                figures[name] = float(figure.detach())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trained = [
            p
            for group in self.optimizer.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        nn.utils.clip_grad_norm_(trained, 1.0)
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimizer.step()
        self._average()
        self.done += 1
        return {"loss": float(loss.detach()), **figures}

    def _encode(self, images: Tensor, train_trunk: bool) -> Tensor:
        encoder = self.sam.image_encoder
        embeddings = []
        for view in encoder.views(images):
            with torch.no_grad():
                low = encoder.trunk.low(view)
            with torch.set_grad_enabled(train_trunk):
                high = encoder.trunk.high(low)
            embeddings.append(encoder.neck(low, *high))
        return encoder.fuse(embeddings)

    def _rate(self) -> float:
        warm = min(1.0, (self.done + 1) / WARMUP)
        return (
            self.rate
            * warm
            * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.done / self.total)))
        )

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(EMA_DECAY, (1 + self.done) / (10 + self.done))
        for mean, value in zip(self.average.parameters(), self.sam.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    def save(self, path: Path) -> None:
        state = {
            "done": self.done,
            "sam": self.sam.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.sam.load_state_dict(state["sam"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = state["done"]


def train(trainer: Trainer, work: Path, save_every: float, log_every: int, image_size: int) -> None:
    """Run the phases to their end, saving every ``save_every`` seconds."""
    figures: dict[str, list[float]] = defaultdict(list)
    started = saved = time.monotonic()
    first = trainer.done
    while trainer.done < trainer.total:
        for name, value in trainer.step().items():
            figures[name].append(value)
        ended = trainer.done == trainer.total
        if trainer.done % log_every == 0 or ended:
            pace = (time.monotonic() - started) / (trainer.done - first)
            means = {name: round(sum(values) / len(values), 3) for name, values in figures.items()}
            line = {
                "step": trainer.done,
                "side": trainer.phase().side,
                "seconds": round(pace, 3),
                **means,
            }
            print(json.dumps(line), flush=True)
            with (work / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            figures.clear()
        if ended or time.monotonic() - saved > save_every:
            trainer.save(work / "state.pt")
            export(trainer.average, work / "sam_lite.safetensors", image_size, trainer.done)
            saved = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of the training photos, or an archive made by training.pack",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(".data/training"),
        help="folder for state, log and checkpoint",
    )
    parser.add_argument(
        "--phases",
        type=parse_phase,
        nargs="+",
        default=[parse_phase(text) for text in PHASES],
        help="SIDExSTEPSxPAIRSxPROMPTSxROUNDS, +trunk to train the trunk above stride 8 as well",
    )
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--image-size",
        type=int,
        default=IMAGE_SIZE,
        help="input side in pixels that the exported model is meant for",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--save-every", type=float, default=180.0, help="seconds")
    parser.add_argument("--log-every", type=int, default=50, help="steps")
    parser.add_argument(
        "--init", type=Path, help="start from the weights of this state.pt, with a new schedule"
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    archive = arguments.work / "train_pack.zip"
    if arguments.data is not None and arguments.data.is_file():
        archive = arguments.data
    elif not archive.exists():
        if arguments.data is None:
            parser.error(
                f"{archive} does not exist: give --data, the folder of the training photos"
            )
        pack(arguments.data, archive)
    trainer = Trainer(
        load_bank(archive, arguments.device), arguments.phases, arguments.rate, arguments.seed
    )
    state = arguments.work / "state.pt"
    if state.exists():
        trainer.load(state)
    elif arguments.init is not None:
        weights = torch.load(arguments.init, map_location=trainer.device, weights_only=True)
        trainer.sam.load_state_dict(weights["average"])
        trainer.average.load_state_dict(weights["average"])
    train(
        trainer,
        arguments.work,
        arguments.save_every,
        arguments.log_every,
        arguments.image_size,
    )


if __name__ == "__main__":
    main()
