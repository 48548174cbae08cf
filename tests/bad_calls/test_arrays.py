"""Bad calls of what needs no dataset: references, methods, models, fitted states, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import fiftyone_persam as fp
from fiftyone_persam.errors import (
    BadReferenceError,
    CheckpointError,
    PersamError,
    PhotoError,
)
from fiftyone_persam.metrics import PerSegAccumulator, boundary, contour_accuracy, jf_scores

from .cases import Bad, refused, table
from .world import World

NAN, INF = float("nan"), float("inf")
H, W = 48, 64


def ref(name: str, says: str, **given: Any) -> Bad:
    """A reference whose photo is sound."""
    return Bad(name, lambda w: fp.Reference(w.photo(), **given), says, BadReferenceError)


def img(name: str, image: Any, says: str) -> Bad:
    """A reference whose photo is not."""
    return Bad(name, lambda w: fp.Reference(image, box=(1, 1, 9, 9)), says, PhotoError)


FULL = np.ones((H, W), bool)

REFERENCES = (
    ref("nothing-marked", "has nothing marked: give exactly one of mask, box and points"),
    ref("mask-and-box", "has mask and box: give exactly one", mask=FULL, box=(1, 1, 9, 9)),
    ref("labels-without-points", "labels belong to points: give points", box=(1, 1, 9, 9),
        labels=[1]),
    ref("mask-turned", "mask is 48 x 64, the photo 64 x 48: give the mask at", mask=FULL.T),
    ref("mask-flat", "mask is an array of shape .3072,.: give .H, W", mask=FULL.ravel()),
    ref("mask-empty", "mask is empty: mark", mask=~FULL),
    ref("mask-nan", "mask holds NaN or infinity: pass bool", mask=np.full((H, W), NAN)),
    ref("mask-text", "mask of type <U1 cannot be used: pass bool", mask=np.full((H, W), "x")),
    ref("mask-complex", "mask of type complex128 cannot be used: pass", mask=FULL * 1j),
    ref("mask-ragged", "mask is not an array of numbers: pass", mask=[[1, 2], [3]]),
    ref("mask-four-channels", "shape .48, 64, 4.: give", mask=np.ones((H, W, 4))),
    ref("box-of-three", "box is .* shape .3,.: give x0, y0", box=(1, 2, 3)),
    ref("box-reversed", r"box \[20.0, .* is empty: .*x0 < x1", box=(20, 20, 10, 30)),
    ref("box-flat", "is empty: it needs x0 < x1", box=(10, 10, 10, 30)),
    ref("box-outside", "lies outside the photo of 64 x 48", box=(100, 10, 120, 30)),
    ref("box-leaves", "leaves the photo of 64 x 48", box=(10, 10, 90, 30)),
    ref("box-relative", "looks relative: multiply", box=(0.1, 0.1, 0.5, 0.5)),
    ref("box-nan", "box .*NaN or infinity: give pixels", box=(NAN, 1, 9, 9)),
    ref("box-inf", "box .*NaN or infinity: give pixels", box=(0, 0, INF, INF)),
    ref("box-text", "box '1 2 3 4' cannot be read: give", box="1 2 3 4"),
    ref("box-text-array", "box array.* cannot be read: give", box=np.full((40, 40), "x")),
    ref("points-outside", r"point \[64.0, 10.0\] lies outside", points=[(64, 10)]),
    ref("points-negative", r"point \[-1.0, 10.0\] lies outside", points=[(5, 5), (-1, 10)]),
    ref("points-nan", "points hold NaN or infinity: give pixels", points=[(NAN, 10)]),
    ref("points-flat", "points are .*shape .2,.: give .n, 2", points=[10, 10]),
    ref("points-none", "points are .*shape .0, 2.: give", points=np.zeros((0, 2))),
    ref("points-all-beside", "no point is on the object: give", points=[(5, 5)], labels=[0]),
    ref("labels-of-2", r"labels \[2.0\] do not fit 1 points: give", points=[(5, 5)], labels=[2]),
    ref("labels-too-many", "labels .* do not fit 1 points", points=[(5, 5)], labels=[1, 1]),
    ref("labels-text", "labels .'object'. cannot be read: give", points=[(5, 5)],
        labels=["object"]),
    img("photo-none", None, "cannot be read from NoneType: pass a path"),
    img("photo-missing", "nowhere/at_all.png", "nowhere/at_all.png does not exist: check"),
    img("photo-empty-path", "", "photo .*is not a file: replace"),
    img("photo-nul", "a\0b.png", "photo .*cannot be read"),
    img("photo-long-path", "x" * 300, "photo .*cannot be read"),
    img("photo-newline", "a\nb.png", "photo .*does not exist"),
    img("photo-five-channels", np.zeros((H, W, 5), np.uint8), "shape \\(48, 64, 5\\).*: pass"),
    img("photo-flat", np.zeros(9, np.uint8), "shape \\(9,\\).*: pass"),
    img("photo-no-pixels", np.zeros((0, W, 3), np.uint8), "shape \\(0, 64, 3\\).*: pass"),
    img("photo-too-bright", np.full((H, W, 3), 1.5), "must lie in \\[0, 1\\].*: scale it"),
    img("photo-nan", np.full((H, W, 3), NAN), "must lie in \\[0, 1\\]"),
    img("photo-int64", np.zeros((H, W, 3), np.int64), "type int64 cannot be used: pass uint8"),
    Bad("photo-text", lambda w: fp.Reference(w.path("text.png"), box=(1, 1, 9, 9)),
        "text.png is not an image.*: replace", PhotoError),
    Bad("photo-zero-bytes", lambda w: fp.Reference(w.path("zero.jpg"), box=(1, 1, 9, 9)),
        "zero.jpg is empty: replace", PhotoError),
    Bad("photo-folder", lambda w: fp.Reference(w.path("full"), box=(1, 1, 9, 9)),
        "full is not a file: replace", PhotoError),
)  # fmt: skip


def persam(name: str, says: str, **options: Any) -> Bad:
    return Bad(name, lambda w: fp.PerSAM(w.sam, **options), says)


def persam_f(name: str, says: str, **options: Any) -> Bad:
    return Bad(name, lambda w: fp.PerSAMF(w.sam, **options), says)


def fitted(w: World) -> fp.PerSAM:
    return fp.PerSAM(w.sam).fit(w.reference())


def predict(name: str, says: str, images: Any, error: type[Exception] = PersamError, **more: Any):
    return Bad(name, lambda w: fitted(w).predict(images(w), **more), says, error)


METHODS = (
    Bad("model-none", lambda w: fp.PerSAM(None), "model None is not known: choose"),
    Bad("model-of-another-kind", lambda w: fp.PerSAM(torch.nn.Linear(2, 2)),
        "model Linear is not known: .*sam_lite"),
    persam("mode-unknown", "mode 'correct' is not known: use 'corrected'", mode="correct"),
    persam("mode-none", "mode None is not known: use", mode=None),
    persam("switch-text", "negative_prior 'no' .*: give True or False", negative_prior="no"),
    persam("switch-none", "post_refinement None .*: give True or", post_refinement=None),
    persam("threshold-high", "presence_threshold 2 .*: give", presence_threshold=2),
    persam("threshold-nan", "presence_threshold nan .*: give", presence_threshold=NAN),
    persam("threshold-bool", "presence_threshold True .*: give", presence_threshold=True),
    persam("threshold-text", "presence_threshold '0.5' .*: give", presence_threshold="0.5"),
    persam("several-unknown", "several_references 'median' is not known: use 'max'",
           several_references="median"),
    persam("instances-zero", "max_instances 0 .*: give", max_instances=0),
    persam("instances-half", "max_instances 1.5 .*: give", max_instances=1.5),
    persam("instances-bool", "max_instances True .*: give", max_instances=True),
    persam("instances-as-released", "mode='reference' finds one object", max_instances=2,
           mode="reference"),
    persam_f("steps-negative", "steps -1 .*: use 1000", steps=-1),
    persam_f("steps-half", "steps 1.5 .*: use 1000", steps=1.5),
    persam_f("steps-endless", "steps 1000000000 .*: use", steps=10**9),
    persam_f("steps-bool", "steps True .*: use", steps=True),
    persam_f("lr-zero", "lr 0 .*: use", lr=0),
    persam_f("lr-nan", "lr nan .*: use", lr=NAN),
    persam_f("lr-text", "lr '0.001' .*: use", lr="0.001"),
    persam_f("tuning-text", "scale_tuning 'off' .*: give True or", scale_tuning="off"),
    Bad("fit-none", lambda w: fp.PerSAM(w.sam).fit(None), "fit needs a Reference.*: ",
        BadReferenceError),
    Bad("fit-photo", lambda w: fp.PerSAM(w.sam).fit(w.photo()), "fit needs a Reference.*: ",
        BadReferenceError),
    Bad("fit-nothing", lambda w: fp.PerSAM(w.sam).fit([]), "fit needs a Reference.*: ",
        BadReferenceError),
    Bad("fit-other-embeddings", lambda w: fp.PerSAM(w.sam).fit(w.reference(), []),
        "1 references need as many embeddings, not 0: "),
    Bad("fit-embedding-of-other-photo",
        lambda w: fp.PerSAM(w.sam).fit(
            w.reference(), fp.PerSAM(w.sam).sam.encode([w.photo()[:20]])),
        "embedding is of a photo of \\(20, 64\\), the reference .*: encode"),
    Bad("predict-unfitted", lambda w: fp.PerSAM(w.sam).predict([w.photo()]),
        "PerSAM knows no object yet: call fit"),
    Bad("save-unfitted", lambda w: fp.PerSAM(w.sam).save(w.path("new")), "knows no object yet: "),
    predict("predict-one-path", "images is a str, not a list of photos: ",
            lambda w: w.path("text.png")),
    predict("predict-one-photo", "images is a ndarray, not a list .*: ", lambda w: w.photo()),
    predict("predict-none", "images is a NoneType, not a list .*: ", lambda w: None),
    predict("predict-number", "read from int: pass", lambda w: [3], PhotoError),
    predict("predict-no-batch", "batch_size 0 .*: give", lambda w: [w.photo()], batch_size=0),
    predict("predict-half-batch", "batch_size 1.5 .*: give", lambda w: [w.photo()],
            batch_size=1.5),
    predict("predict-bool-batch", "batch_size True .*: give", lambda w: [w.photo()],
            batch_size=True),
    Bad("decode-negative-batch", lambda w: fitted(w).predict_embeddings(
        fitted(w).sam.encode([w.photo()]), batch_size=-1), "batch_size -1 .*: give"),
    Bad("decode-photos", lambda w: fitted(w).predict_embeddings([w.photo()]),
        "ndarray is not an embedding: "),
    Bad("load-sam-unknown", lambda w: fp.load_sam("sam_vit_bb"),
        "model 'sam_vit_bb' is not known.*did you mean 'sam_vit_b'"),
    Bad("load-sam-other-case", lambda w: fp.load_sam("SAM_LITE"), "did you mean 'sam_lite'"),
    Bad("load-sam-list", lambda w: fp.load_sam(["sam_lite"]), "model list is not known: choose"),
    Bad("load-sam-path", lambda w: fp.load_sam("../sam_lite"), "'../sam_lite' is not known: "),
    Bad("load-sam-missing", lambda w: fp.load_sam("sam_vit_b", download=False),
        "checkpoint .*sam_vit_b_01ec64.pth is missing: get it from https://", CheckpointError),
    Bad("device-unknown", lambda w: fp.load_sam(w.sam, device="gpu"),
        "device 'gpu' is not known: use cuda"),
    Bad("device-far", lambda w: fp.load_sam(w.sam, device="cuda:99"),
        "device 'cuda:99' is not there: use device='auto'"),
    Bad("device-meta", lambda w: fp.load_sam(w.sam, device="meta"), "device 'meta' .*: use"),
    Bad("device-none", lambda w: fp.load_sam(w.sam, device=None), "device None .*: use"),
    Bad("dtype-unknown", lambda w: fp.load_sam(w.sam, dtype="float64"),
        "dtype 'float64' is not known: use float32"),
    Bad("dtype-other", lambda w: fp.load_sam(w.sam, dtype=torch.int8),
        "dtype torch.int8 is not known: use"),
)  # fmt: skip


def load(name: str, file: Any, says: str, method: Any = fp.PerSAM) -> Bad:
    return Bad(name, lambda w: method.load(file(w), w.sam), says, CheckpointError)


def altered(w: World, header: dict[str, Any] | None = None, **tensors: Any) -> str:
    """A fitted state with other settings or tensors; outside of what is watched."""
    import json
    import tempfile

    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(w.path("persam.safetensors"), "pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["persam"])
    path = Path(tempfile.mkdtemp()) / "altered.safetensors"
    save_file({**kept, **tensors}, path, {"persam": json.dumps({**about, **(header or {})})})
    return str(path)


STATES = (
    load("state-missing", lambda w: w.path("nothing"), "nothing.safetensors does not exist: "),
    load("state-torn", lambda w: w.path("torn.safetensors"), "torn.safetensors cannot be read"),
    load("state-folder", lambda w: w.path("full"), "does not exist: "),
    load("state-none", lambda w: None, "None is not a path: "),
    load("state-of-other-method", lambda w: w.path("persam.safetensors"),
         "is of method 'persam', not 'persam_f': ", fp.PerSAMF),
    load("state-with-nan", lambda w: altered(w, targets=torch.full((1, 128), NAN)),
         "altered.safetensors .*: fit"),
    load("state-of-other-shape", lambda w: altered(w, levels=torch.zeros(3, 2)),
         "altered.safetensors .*: fit"),
    load("state-of-other-model", lambda w: altered(w, {"image_size": 1024}),
         "was made with model .*: load that model"),
    load("state-unknown-setting", lambda w: altered(w, {"settings": {"speed": 9}}),
         "settings that this version does not know: fit"),
    load("state-bad-setting", lambda w: altered(w, {"settings": {"mode": "fast"}}),
         "altered.safetensors .*mode 'fast'.*: "),
    load("state-no-settings", lambda w: altered(w, {"settings": None}), "settings .*: fit"),
    load("state-newer", lambda w: altered(w, {"version": 9}), "has version 9.*: fit"),
    Bad("save-below-a-file", lambda w: fitted(w).save(w.path("text.png/state")),
        "text.png/state.safetensors .*: "),
    Bad("save-to-none", lambda w: fitted(w).save(None), "None is not a path: ",
        CheckpointError),
)  # fmt: skip


def metric(name: str, says: str, call: Any) -> Bad:
    return Bad(name, lambda w: call(), says)


def collected(*rows: Any, **options: Any) -> PerSegAccumulator:
    scores = PerSegAccumulator(**options)
    for row in rows:
        scores.update(*row)
    return scores


METRICS = (
    metric("iou-none", "a must be 2-D.*: pass", lambda: fp.iou(None, FULL)),
    metric("iou-flat", "b must be 2-D .*: pass one channel", lambda: fp.iou(FULL, FULL.ravel())),
    metric("iou-of-two-sizes", "a is 48 x 64 but b is 64 x 48", lambda: fp.iou(FULL, FULL.T)),
    metric("iou-probabilities", "a has float values .*: threshold it",
           lambda: fp.iou(FULL * 0.3, FULL)),
    metric("iou-nan", "a contains NaN: ", lambda: fp.iou(FULL * NAN, FULL)),
    metric("iou-infinite", "a has float values", lambda: fp.iou(np.full((4, 4), INF), FULL)),
    metric("iou-text", "a must be bool, integer or float.*: ",
           lambda: fp.iou(np.full((H, W), "x"), FULL)),
    metric("iou-ragged", r"a is not an array of numbers \(.*\): give",
           lambda: fp.iou([[1], [1, 2]], FULL)),
    metric("iou-no-pixels", "a of shape .0, 5. has no pixels: ",
           lambda: fp.iou(np.zeros((0, 5)), FULL)),
    metric("biou-ratio-zero", "dilation_ratio must be a number above 0, got 0: ",
           lambda: fp.boundary_iou(FULL, FULL, 0)),
    metric("biou-ratio-nan", "dilation_ratio .* got nan: ",
           lambda: fp.boundary_iou(FULL, FULL, NAN)),
    metric("biou-ratio-bool", "dilation_ratio .* got True: ",
           lambda: fp.boundary_iou(FULL, FULL, True)),
    metric("biou-ratio-text", "dilation_ratio .* got '0.02': ",
           lambda: fp.boundary_iou(FULL, FULL, "0.02")),
    metric("boundary-ratio-inf", "dilation_ratio .* got inf: ", lambda: boundary(FULL, INF)),
    metric("accuracy-of-two-sizes", "pred is 48 x 64 but gt is 9 x 9",
           lambda: fp.accuracy(FULL, FULL[:9, :9])),
    metric("contour-tolerance", "tolerance_ratio .* got -1: ",
           lambda: contour_accuracy(FULL, FULL, -1)),
    metric("contour-tolerance-text", "tolerance_ratio .* got 'x': ",
           lambda: contour_accuracy(FULL, FULL, "x")),
    metric("jf-two-frames", "2 frames are too few: ", lambda: jf_scores([FULL] * 2, [FULL] * 2)),
    metric("jf-uneven", "3 predicted frames but 4 .*: ",
           lambda: jf_scores([FULL] * 3, [FULL] * 4)),
    metric("scores-ratio", "dilation_ratio .* got -1: ",
           lambda: PerSegAccumulator(dilation_ratio=-1)),
    metric("scores-no-name", "object is '': give", lambda: collected(("", FULL, FULL))),
    metric("scores-number-name", "object is 3: give", lambda: collected((3, FULL, FULL))),
    metric("scores-of-two-sizes", "pred is 48 x 64 but gt is 64 x 48",
           lambda: collected(("cat", FULL, FULL.T))),
    metric("scores-of-nothing", "there are no scores: add", lambda: collected().compute()),
    metric("scores-merge-ratios", "cannot merge .* 0.1 .*: compute both",
           lambda: collected().merge(collected(dilation_ratio=0.1))),
    metric("scores-merge-none", "NoneType is not a PerSegAccumulator: ",
           lambda: collected().merge(None)),
    metric("scores-counts", "dict is not a PhotoCounts: ",
           lambda: collected().update_counts("cat", {})),
)  # fmt: skip


@table(*REFERENCES)
def test_references(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*METHODS)
def test_methods_and_models(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*STATES)
def test_fitted_states(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*METRICS)
def test_metrics(bad: Bad, world: World) -> None:
    refused(bad, world)
