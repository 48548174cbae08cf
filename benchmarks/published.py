"""How far mode="reference" is from the published scripts, run live.

    python -m benchmarks.published CHECKOUT ALBUM [--objects cat ...] [--model sam_lite]

CHECKOUT is a clone of the paper's published repository, which is no part of this one: its
``persam.py`` and ``persam_f.py`` run as they are, on an album in PerSeg's layout, with two things
put in their place: the model, and ``.cuda()`` where there is no GPU. What their predictor is asked
and what they write is compared with what PerSAM and PerSAM-F compute here from the same weights in
float32. sam_lite is run at the published scripts' input size of 1024 pixels.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import Sam

from fiftyone_persam.metrics import iou
from fiftyone_persam.personalize import PerSAM, PerSAMF, Reference
from fiftyone_persam.sam import PromptableSam, load_sam
from fiftyone_persam.sam.lite import build_sam_lite

Array = npt.NDArray[Any]
INPUT_SIZE = 1024
METHODS: dict[str, Any] = {"persam": PerSAM, "persam_f": PerSAMF}
PASSES = 3
PACKAGE = "per_segment_anything"


@dataclass
class Seen:
    """What a method did with one photo.

    Attributes:
        points: (n, 2) x, y prompts.
        boxes: (4,) each, the box prompts of the passes in order.
        mask: (H, W) bool, the final one.
    """

    points: Array
    boxes: list[Array]
    mask: Array


@dataclass
class Run:
    """An object's photos by name, and PerSAM-F's (3,) weights."""

    photos: dict[str, Seen] = field(default_factory=dict)
    weights: Array | None = None


@dataclass
class Deviations:
    """How one method differs from its published script, over all photos.

    Attributes:
        photos: how many were compared.
        points: points that differ.
        boxes: boxes that differ.
        iou: the least IoU of two masks of a photo.
        weights: the largest deviation of a mask weight.
    """

    photos: int = 0
    points: int = 0
    boxes: int = 0
    iou: float = 1.0
    weights: float = 0.0

    def add(self, ours: Run, published: Run) -> None:
        for name, theirs in published.photos.items():
            mine = ours.photos[name]
            self.photos += 1
            self.points += int((mine.points != theirs.points).any(axis=1).sum())
            pairs = zip(mine.boxes, theirs.boxes, strict=True)
            self.boxes += sum(bool((a != b).any()) for a, b in pairs)
            self.iou = min(self.iou, float(iou(mine.mask, theirs.mask)))
        if published.weights is not None and ours.weights is not None:
            self.weights = max(self.weights, float(np.abs(ours.weights - published.weights).max()))


def load_model(name: str) -> PromptableSam:
    """A model in float32 whose input has the size that the published scripts take."""
    sam = load_sam(name, dtype="float32")
    if sam.image_size == INPUT_SIZE:
        return sam
    large = build_sam_lite(INPUT_SIZE)
    large.load_state_dict(sam.sam.state_dict())
    return load_sam(large, device=sam.device, dtype="float32")


def run_published(checkout: Path, album: Path, method: str, sam: Sam) -> dict[str, Run]:
    """Run a published script on an album.

    Args:
        checkout: of the published repository.
        album: in PerSeg's layout, photos named 00.jpg, 01.jpg and so on.
        method: "persam" or "persam_f", as the script is called.
        sam: takes the place of the published checkpoint.

    Returns:
        The run of each object.
    """
    runs: dict[str, Run] = {}
    with _imported(checkout, method) as script, tempfile.TemporaryDirectory() as scratch:
        model = _as_published(sam)

        class Recording(script.SamPredictor):  # type: ignore[misc, name-defined]
            """The published predictor, which also notes what it is asked."""

            def __init__(self, model: Any) -> None:
                self.asked: list[dict[str, Any]] = []
                predictors.append(self)
                super().__init__(model)

            def set_image(self, *args: Any, **kwargs: Any) -> Any:
                self.asked.append({})  # a new photo begins
                return super().set_image(*args, **kwargs)

            def predict(self, **prompt: Any) -> Any:
                self.asked.append(prompt)
                return super().predict(**prompt)

        predictors: list[Recording] = []
        learned: list[Any] = []
        names = [entry for entry in os.listdir(album / "Images") if ".DS" not in entry]
        words = [method, "--data", str(album.resolve())]
        with contextlib.ExitStack() as stack:
            put = stack.enter_context
            put(mock.patch.object(script, "SamPredictor", Recording))
            put(mock.patch.object(script, "sam_model_registry", {"vit_h": lambda **_: model}))
            put(mock.patch.object(sys, "argv", words))
            if method == "persam_f":
                put(mock.patch.object(script, "Mask_Weights", _noting(script, learned)))
            if not torch.cuda.is_available():
                put(mock.patch.object(torch.Tensor, "cuda", lambda self, *_: self))
                put(mock.patch.object(torch.nn.Module, "cuda", lambda self, *_: self))
            put(_folder(Path(scratch)))
            script.main()
        written = Path(scratch) / "outputs" / method
        for index, (name, predictor) in enumerate(zip(names, predictors, strict=True)):
            runs[name] = Run(_photos(predictor.asked, written / name))
            if learned:
                free = learned[index].weights.detach().cpu().numpy()[:, 0]
                runs[name].weights = np.array([1 - free.sum(), *free])
    return runs


def run_ours(sam: PromptableSam, album: Path, method: str, name: str) -> Run:
    """The same object by this package in reference mode."""
    photos = sorted((album / "Images" / name).iterdir())
    mask = cv2.cvtColor(
        cv2.imread(str(album / "Annotations" / name / f"{photos[0].stem}.png")), cv2.COLOR_BGR2RGB
    )
    fitted = METHODS[method](sam, mode="reference").fit(Reference(photos[0], mask=mask))
    run = Run(weights=np.array(fitted.tuning.weights) if method == "persam_f" else None)
    for path in photos:
        embedding = sam.encode([path])[0]
        batch, outcome = fitted.trace(embedding)
        boxes = [one.boxes[0] for one in outcome.passes if one.boxes is not None]
        mask = fitted.predict_embeddings([embedding])[0].mask
        run.photos[path.stem] = Seen(batch.points[0], boxes, mask)
    return run


def compare(
    checkout: Path, album: Path, sam: PromptableSam, objects: list[str] | None = None
) -> dict[str, Deviations]:
    """The deviations of each method over an album, or some of its objects."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        if objects:
            album = _part(album, objects, Path(scratch))
        for method in METHODS:
            found[method] = Deviations()
            for name, published in run_published(checkout, album, method, sam.sam).items():
                found[method].add(run_ours(sam, album, method, name), published)
    return found


def _photos(asked: list[dict[str, Any]], folder: Path) -> dict[str, Seen]:
    """What was asked of the predictor, photo by photo; the reference's own part comes first."""
    groups: list[list[dict[str, Any]]] = []
    for prompt in asked:
        if not prompt:
            groups.append([])
        else:
            groups[-1].append(prompt)
    seen = {}
    for number, prompts in enumerate(groups[1:]):
        if len(prompts) != PASSES:
            raise ValueError(f"{folder.name}/{number:02}: {len(prompts)} passes, not {PASSES}")
        boxes = [np.asarray(p["box"]).reshape(4) for p in prompts if p.get("box") is not None]
        mask = cv2.imread(str(folder / f"{number:02}.png")).any(axis=2)
        seen[f"{number:02}"] = Seen(np.asarray(prompts[0]["point_coords"]), boxes, mask)
    return seen


def _noting(script: Any, made: list[Any]) -> Any:
    """The script's class of mask weights, whose instances are kept."""
    original = script.Mask_Weights

    def make() -> Any:
        made.append(original())
        return made[-1]

    return make


def _as_published(sam: Sam) -> Any:
    """The same model as one of the published package, which has segment_anything's classes.

    Its decoder takes guided attention and the target embedding besides. Whatever the package does
    not have, such as another image encoder, stays.
    """
    theirs: dict[str, type] = {}
    for name in ("common", "transformer", "mask_decoder", "prompt_encoder", "sam"):
        theirs.update(vars(importlib.import_module(f"{PACKAGE}.modeling.{name}")))
    model = copy.deepcopy(sam)
    for module in model.modules():
        kind = type(module)
        if kind.__module__.startswith("segment_anything.") and kind.__name__ in theirs:
            module.__class__ = theirs[kind.__name__]
    return model


@contextlib.contextmanager
def _imported(checkout: Path, name: str) -> Iterator[Any]:
    """A module of the checkout, which is forgotten afterwards."""
    if not (checkout / f"{name}.py").is_file():
        raise FileNotFoundError(f"{checkout} has no {name}.py: give a checkout of the repository")
    before = set(sys.modules)
    with warnings.catch_warnings(), mock.patch.object(sys, "path", [str(checkout), *sys.path]):
        import matplotlib

        matplotlib.use("Agg")
        try:
            yield importlib.import_module(name)
        finally:
            import matplotlib.pyplot as plt

            plt.close("all")
            for module in set(sys.modules) - before:
                if module in ("persam", "persam_f", "show") or module.startswith(PACKAGE):
                    del sys.modules[module]


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """The scripts write below the working directory."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def _part(album: Path, objects: list[str], scratch: Path) -> Path:
    for kind in ("Images", "Annotations"):
        (scratch / kind).mkdir()
        for name in objects:
            (scratch / kind / name).symlink_to((album / kind / name).resolve())
    return scratch


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, help="a clone of the published repository")
    parser.add_argument("album", type=Path, help="in PerSeg's layout")
    parser.add_argument("--objects", nargs="*", help="some of the album's objects")
    parser.add_argument("--model", default="sam_lite", help="a model's name")
    options = parser.parse_args(arguments)
    found = compare(
        options.checkout.resolve(), options.album, load_model(options.model), options.objects
    )
    print(f"{'':10} {'photos':>6} {'points':>8} {'boxes':>8} {'worst IoU':>10} {'weights':>9}")
    for method, one in found.items():
        weights = f"{one.weights:9.1e}" if method == "persam_f" else f"{'':9}"
        print(f"{method:10} {one.photos:6} {one.points:8} {one.boxes:8} {one.iou:10.6f} {weights}")
    print("points, boxes: how many differ. weights: the largest deviation.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
