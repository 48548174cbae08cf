"""The released pipeline written plainly, as a control: one photo at a time, one pass at a time.

Follows section 2 of the project's PerSAM notes line by line on ``segment_anything``'s own
`SamPredictor`, and shares nothing with `fiftyone_persam.personalize`. Only the guided first pass,
which the package has no place for, is decoded by `decode_batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from fiftyone_persam.sam import decode_batch

Array = npt.NDArray[Any]
Record = dict[str, Array]


@torch.inference_mode()
def persam(sam: Sam, reference: Array, colour_mask: Array, photos: Iterable[Array]) -> list[Record]:
    """PerSAM on each photo (H, W, 3) RGB; keys as in the recorded numbers."""
    predictor = SamPredictor(sam)
    predictor.set_image(reference)
    cells = _foreground(predictor, colour_mask)
    embedding = _channels_last(predictor)[cells].mean(dim=0, keepdim=True)
    target = embedding / embedding.norm(dim=-1, keepdim=True)
    labels = np.array([1, 0])
    records = []
    for photo in photos:
        predictor.set_image(photo)
        similarity = _similarity(predictor, target)
        full = _full_size(predictor, similarity)
        points = np.concatenate([_extremum(full, largest=True), _extremum(full, largest=False)])
        standard = (full - full.mean()) / torch.std(full)
        attention = F.interpolate(
            standard[None, None], similarity.shape, mode="bilinear", align_corners=False
        ).sigmoid()
        placed = predictor.transform.apply_coords(points, predictor.original_size)
        logits, scores = decode_batch(
            sam,
            predictor.features,
            torch.as_tensor(placed, dtype=torch.float, device=sam.device)[None],
            torch.as_tensor(labels, device=sam.device)[None],
            attention_bias=attention.flatten(1),
            token_offset=embedding,
        )
        first = logits[0, :1].cpu().numpy()
        prompt = {"point_coords": points, "point_labels": labels, "multimask_output": True}
        masks, scores2, maps2 = predictor.predict(mask_input=first, **prompt)
        best = int(scores2.argmax())
        box = _tight_box(masks[best])
        second = maps2[best]
        masks, scores3, maps3 = predictor.predict(box=box[None], mask_input=second[None], **prompt)
        last = int(scores3.argmax())
        records.append(
            {
                "sim": similarity.cpu().numpy(),
                "points": points,
                "attn": attention.flatten().cpu().numpy(),
                "logits1": first,
                "scores1": scores[0, :1].cpu().numpy(),
                "logits2": second,
                "scores2": scores2,
                "box": box,
                "logits3": maps3[last],
                "scores3": scores3,
                "mask": masks[last],
            }
        )
    return records


def persam_f(
    sam: Sam, reference: Array, colour_mask: Array, photos: Iterable[Array], steps: int = 1000
) -> tuple[Record, list[Record]]:
    """PerSAM-F: what the tuning gives, and the records of each photo.

    The decoder's output does not depend on the weights, so it is decoded once; every step
    goes through all pixels of the photo.
    """
    predictor = SamPredictor(sam)
    predictor.set_image(reference)
    with torch.inference_mode():
        features = _channels_last(predictor)[_foreground(predictor, colour_mask)]
        peak = features.max(dim=0, keepdim=True).values / 2 + features.mean(dim=0, keepdim=True) / 2
        target = peak / peak.norm(dim=-1, keepdim=True)
        point = _extremum(_full_size(predictor, _similarity(predictor, target)), largest=True)
        _, _, low = predictor.predict(point, np.array([1]), multimask_output=True)
        logits = _full_logits(predictor, low)
    truth = torch.as_tensor(colour_mask[:, :, 0] > 0).flatten().float()
    weights, losses = tune(logits.clone().flatten(1), truth, steps)
    records = []
    for photo in photos:
        with torch.inference_mode():
            records.append(_persam_f_photo(predictor, photo, target, weights))
    tuned = {
        "target_feat_f": target.numpy(),
        "ref_point": point,
        "weights": weights.numpy(),
        "losses": np.array(losses),
    }
    return tuned, records


def tune(
    logits: Tensor, truth: Tensor, steps: int, decode: Callable[[], Tensor] | None = None
) -> tuple[Tensor, list[tuple[float, float]]]:
    """(3, n) logits and (n,) of 0 and 1 -> (3, 1) weights; dice and focal loss on the way.

    ``decode``, if it is given, is asked for the same logits again before each step.
    """
    free = torch.full((2, 1), 1 / 3, requires_grad=True, device=truth.device)
    optimiser = torch.optim.AdamW([free], lr=1e-3, eps=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    for step in range(steps):
        weights = torch.cat([1 - free.sum(dim=0, keepdim=True), free])
        maps = logits if decode is None else decode()
        summed = (maps * weights).sum(dim=0)
        p = summed.sigmoid()
        dice = 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
        cross = F.binary_cross_entropy_with_logits(summed, truth, reduction="none")
        right = p * truth + (1 - p) * (1 - truth)
        side = 0.25 * truth + 0.75 * (1 - truth)
        focal = (side * cross * (1 - right) ** 2).mean()
        optimiser.zero_grad()
        (dice + focal).backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            losses.append((dice.item(), focal.item()))
    return torch.cat([1 - free.sum(dim=0, keepdim=True), free]).detach(), losses


def _persam_f_photo(
    predictor: SamPredictor, photo: Array, target: Tensor, weights: Tensor
) -> Record:
    predictor.set_image(photo)
    point = _extremum(_full_size(predictor, _similarity(predictor, target)), largest=True)
    prompt = {"point_coords": point, "point_labels": np.array([1]), "multimask_output": True}
    _, _, low = predictor.predict(**prompt)
    first = (torch.as_tensor(low) * weights[:, :, None]).sum(dim=0)
    mask = (_full_logits(predictor, low) * weights[:, :, None]).sum(dim=0) > 0
    box1 = _tight_box(mask.numpy())
    masks, scores2, maps2 = predictor.predict(
        box=box1[None], mask_input=first[None].numpy(), **prompt
    )
    best = int(scores2.argmax())
    box2 = _tight_box(masks[best])
    masks, scores3, maps3 = predictor.predict(
        box=box2[None], mask_input=maps2[best][None], **prompt
    )
    last = int(scores3.argmax())
    return {
        "points": point,
        "logits1": first.numpy(),
        "box1": box1,
        "scores2": scores2,
        "box2": box2,
        "logits3": maps3[last],
        "scores3": scores3,
        "mask": masks[last],
    }


def _foreground(predictor: SamPredictor, colour_mask: Array) -> Tensor:
    """(H, W, 3) uint8 -> (h, w) bool: the mask takes the photo's way to the grid."""
    resized = torch.as_tensor(predictor.transform.apply_image(colour_mask), device=predictor.device)
    normalised = predictor.model.preprocess(resized.permute(2, 0, 1)[None])
    size = predictor.features.shape[-2:]
    return F.interpolate(normalised, size, mode="bilinear", align_corners=False)[0, 0] > 0


def _channels_last(predictor: SamPredictor) -> Tensor:
    return predictor.features[0].permute(1, 2, 0)


def _similarity(predictor: SamPredictor, target: Tensor) -> Tensor:
    """(1, C) -> (h, w) cosine similarity."""
    features = predictor.features[0]
    normalised = features / features.norm(dim=0, keepdim=True)
    return (target @ normalised.flatten(1)).reshape(features.shape[-2:])


def _full_size(predictor: SamPredictor, grid: Tensor) -> Tensor:
    """(h, w) -> (H, W) by way of four times the grid, as mask logits go."""
    large = F.interpolate(grid[None, None], scale_factor=4, mode="bilinear", align_corners=False)
    sizes = (predictor.input_size, predictor.original_size)
    return predictor.model.postprocess_masks(large, *sizes)[0, 0]


def _full_logits(predictor: SamPredictor, low: Array) -> Tensor:
    sizes = (predictor.input_size, predictor.original_size)
    return predictor.model.postprocess_masks(torch.as_tensor(low)[None], *sizes)[0]


def _extremum(full: Tensor, largest: bool) -> Array:
    """(H, W) -> (1, 2) x, y."""
    flat = full.flatten()
    index = int(flat.topk(1, largest=largest).indices)
    return np.array([[index % full.shape[1], index // full.shape[1]]])


def _tight_box(mask: Array) -> Array:
    rows, columns = np.nonzero(mask)
    if not rows.size:  # the released code ends here
        return np.array([0, 0, mask.shape[1] - 1, mask.shape[0] - 1])
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()])
