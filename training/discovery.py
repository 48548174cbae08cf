"""Train the head that finds things in sam_lite's embedding. One command makes the checkpoint:

    python -m training.discovery --data ../shared/data/train --work .data/discovery

The embedding stays frozen, so scenes are composed and encoded once, in shards that are kept in the
work folder, and the head is trained on the shards. Called again, it goes on with the shards that
are there. One photo in eight takes no part (`training.held_out`).
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections import defaultdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.nn import functional

from fiftyone_persam.sam import load_sam
from fiftyone_persam.sam.discovery import DiscoveryHead, Maps, box_iou, generalized_iou
from fiftyone_persam.sam.lite import IMAGE_SIZE
from training.bank import Bank, load_bank
from training.discovery_scenes import Targets, scene
from training.held_out import is_held_out
from training.pack import pack

SHARD = 200  # scenes
ENCODE_BATCH = 8
FOCAL_ALPHA, FOCAL_GAMMA = 0.4, 2.0
EMA_DECAY = 0.995
WARMUP = 50


def encode_shard(bank: Bank, sam: Sam, seed: int, count: int, side: int) -> dict[str, Tensor]:
    """Compose and encode ``count`` scenes: the features in float16, and the targets."""
    rows: dict[str, list[Tensor]] = defaultdict(list)
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, count, ENCODE_BATCH):
        images = []
        for _ in range(min(ENCODE_BATCH, count - start)):
            image, found = scene(bank, side, generator)
            images.append(image)
            for name, value in vars(found).items():
                rows[name].append(value.half())
        with torch.no_grad():
            batch = (torch.stack(images) - 127) / 128
            rows["features"] += list(sam.image_encoder(batch).half())
    return {name: torch.stack(values).cpu() for name, values in rows.items()}


def loss_of(maps: Maps, targets: Targets) -> dict[str, Tensor]:
    """Focal loss on objectness; generalised IoU and the box's quality where a thing is."""
    probability = maps.objectness.sigmoid()
    wanted = targets.objectness
    plain = functional.binary_cross_entropy_with_logits(maps.objectness, wanted, reduction="none")
    wrong = torch.where(wanted > 0.5, 1 - probability, probability)
    balance = torch.where(wanted > 0.5, FOCAL_ALPHA, 1 - FOCAL_ALPHA)
    positives = (wanted * targets.weight).sum().clamp(min=1)
    objectness = (balance * wrong**FOCAL_GAMMA * plain * targets.weight).sum() / positives
    held = targets.inside > 0
    boxes, own, share = maps.boxes[held], targets.boxes[held], targets.inside[held]
    total = share.sum().clamp(min=1)
    overlap = generalized_iou(boxes, own)
    fit = ((1 - overlap) * share).sum() / total
    iou = box_iou(boxes, own).detach()
    quality = functional.binary_cross_entropy_with_logits(
        maps.quality[held], iou, weight=share, reduction="sum"
    )
    return {"objectness": objectness, "box": fit, "quality": quality / total}


def train(
    work: Path, steps: int, batch: int, rate: float, seed: int, device: str, log_every: int
) -> DiscoveryHead:
    """Train on the shards in the work folder; shards that come while it trains join in."""
    torch.manual_seed(seed)
    head = DiscoveryHead().to(device)
    for layer in head.out:
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
        with torch.no_grad():
            layer.bias[0] = -4.0
    average = copy.deepcopy(head)
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.05)
    generator = torch.Generator().manual_seed(seed)
    shards: dict[str, dict[str, Tensor]] = {}
    figures: dict[str, list[float]] = defaultdict(list)
    started = time.monotonic()
    for step in range(steps):
        if step % 50 == 0:
            for path in sorted(work.glob("shard-*.pt")):
                if path.name not in shards:
                    shards[path.name] = torch.load(path, weights_only=True, mmap=True)
        names = list(shards)
        picks = torch.randint(len(names) * SHARD, (batch,), generator=generator).tolist()
        rows = [(shards[names[k // SHARD]], k % SHARD) for k in picks]
        picked = {
            name: torch.stack([shard[name][k % len(shard[name])] for shard, k in rows])
            .to(device)
            .float()
            for name in rows[0][0]
        }
        features = picked.pop("features")
        warm = min(1.0, (step + 1) / WARMUP)
        now = rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = now
        losses = loss_of(head(features), Targets(**picked))
        loss = losses["objectness"] + 2 * losses["box"] + 0.5 * losses["quality"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 5.0)
        optimizer.step()
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), head.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        for name, value in losses.items():
            figures[name].append(float(value.detach()))
        if (step + 1) % log_every == 0 or step + 1 == steps:
            line = {"step": step + 1, "scenes": len(names) * SHARD}
            means = {name: round(sum(v) / len(v), 4) for name, v in figures.items()}
            pace = round((time.monotonic() - started) / (step + 1), 3)
            print(json.dumps({**line, "seconds": pace, **means}), flush=True)
            figures.clear()
            export(average, work / "discovery.safetensors", step + 1)
    return average


def export(head: DiscoveryHead, path: Path, steps: int) -> None:
    """Save the head in float16; the file appears whole or not at all."""
    tensors = {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in head.state_dict().items()
    }
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"format": "discovery", "steps": str(steps)})
    partial.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="folder of the training photos, or an archive of training.pack"
    )
    parser.add_argument("--work", type=Path, default=Path(".data/discovery"))
    parser.add_argument("--scenes", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=3000, help="0 only encodes")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=IMAGE_SIZE, help="of the scenes in pixels")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--log-every", type=int, default=50)
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    wanted = range(-(-arguments.scenes // SHARD))
    missing = [k for k in wanted if not (work / f"shard-{k:03}.pt").exists()]
    if missing and arguments.data is not None:
        archive = arguments.data
        if archive.is_dir():
            archive = work / "train_pack.zip"
            if not archive.exists():
                pack(arguments.data, archive)
        bank = load_bank(archive, arguments.device, without=is_held_out)
        sam = load_sam("sam_lite", device=arguments.device).sam
        for k in missing:
            shard = encode_shard(bank, sam, 1_000 * arguments.seed + k, SHARD, arguments.side)
            partial = work / f"shard-{k:03}.partial"
            torch.save(shard, partial)
            partial.replace(work / f"shard-{k:03}.pt")
            print(f"shard {k}: {SHARD} scenes", flush=True)
        del bank
    if arguments.steps:
        if not any(work.glob("shard-*.pt")):
            parser.error(f"{work} has no scenes: give --data, the folder of the training photos")
        train(
            work,
            arguments.steps,
            arguments.batch,
            arguments.rate,
            arguments.seed,
            arguments.device,
            arguments.log_every,
        )


if __name__ == "__main__":
    main()
