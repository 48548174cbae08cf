from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

import fiftyone_persam as fp
from fiftyone_persam.metrics import iou
from fiftyone_persam.personalize import METHODS, sequence_session
from fiftyone_persam.personalize.session import SequenceSession
from fiftyone_persam.sam import ImageEmbedding, PromptableSam, load_sam
from tests.personalize.moving import Film, film

FRAMES = 6
CROSSING: dict[str, list[tuple[int, int] | None]] = {
    "cat": [(20 + 28 * n, 30 + 6 * n) for n in range(FRAMES)],
    "cup": [(350 - 20 * n, 150) for n in range(FRAMES)],
}


@pytest.fixture(scope="module")
def lite() -> PromptableSam:
    return load_sam("sam_lite")


@pytest.fixture(scope="module")
def crossing(lite: PromptableSam) -> Film:
    return encoded_by(lite, film(CROSSING))


def encoded_by(sam: PromptableSam, made: Film) -> Film:
    made.encoded = sam.encode(made.frames)
    return made


def opened(
    sam: PromptableSam, made: Film, method: str = "persam", **options: Any
) -> tuple[SequenceSession, list[ImageEmbedding], dict[str, fp.Prediction]]:
    """A session after its first frame, and all frames' embeddings."""
    encoded = made.encoded
    fitted = {
        name: METHODS[method](sam, **options).fit(
            fp.Reference(made.frames[0], mask=masks[0]), [encoded[0]]
        )
        for name, masks in made.masks.items()
        if masks[0].any()
    }
    session = sequence_session(fitted)
    first = {name: made.masks[name][0] for name in fitted}
    return session, encoded, session.open(encoded[0], first, made.frames[0])


@pytest.mark.parametrize("method", ["persam", "persam_f"])
def test_two_objects_are_followed_and_share_no_pixel(
    lite: PromptableSam, crossing: Film, method: str
) -> None:
    session, encoded, first = opened(lite, crossing, method)
    assert list(first) == ["cat", "cup"]
    assert all((first[n].mask == crossing.masks[n][0]).all() for n in first)
    for number in range(1, FRAMES):
        found = session.step(encoded[number], crossing.frames[number])
        assert list(found) == ["cat", "cup"]
        assert not (found["cat"].mask & found["cup"].mask).any()
        for name, one in found.items():
            truth = crossing.masks[name][number]
            assert iou(one.mask, truth) > 0.75, (name, number)
            assert one.mask.shape == truth.shape and one.stage == "tracked"
            assert 0 <= one.presence <= 1 and truth[one.points[0, 1], one.points[0, 0]]


def test_a_frame_without_pixels_is_followed_by_its_embedding(
    lite: PromptableSam, crossing: Film
) -> None:
    session, encoded, _ = opened(lite, crossing)
    for number in range(1, 4):
        found = session.step(encoded[number])
        assert all(iou(found[n].mask, crossing.masks[n][number]) > 0.5 for n in found)


def test_an_object_that_comes_back_is_itself(lite: PromptableSam) -> None:
    places = {name: list(path) for name, path in CROSSING.items()}
    places["cat"][2:4] = [None] * 2
    made = encoded_by(lite, film(places))
    session, encoded, _ = opened(lite, made)
    for number in range(1, FRAMES):
        found = session.step(encoded[number], made.frames[number])
        assert iou(found["cup"].mask, made.masks["cup"][number]) > 0.75
        if places["cat"][number] is None:
            assert found["cat"].stage == "absent" and not found["cat"].mask.any()
        else:
            assert iou(found["cat"].mask, made.masks["cat"][number]) > 0.75, number


@pytest.mark.parametrize("mode", ["corrected", "reference"])
def test_a_session_resumes_where_another_one_stopped(
    lite: PromptableSam, crossing: Film, mode: str
) -> None:
    whole, encoded, _ = opened(lite, crossing, mode=mode)
    answers = [whole.step(e, f) for e, f in zip(encoded[1:4], crossing.frames[1:4], strict=True)]
    resumed, _, _ = opened(lite, crossing, mode=mode)
    for number in range(2):
        masks = {name: one.mask for name, one in answers[number].items()}
        resumed.follow(encoded[1 + number], masks, crossing.frames[1 + number])
    again = resumed.step(encoded[3], crossing.frames[3])
    for name, one in again.items():
        np.testing.assert_array_equal(one.mask, answers[2][name].mask)


def test_a_sequence_without_a_labelled_frame(lite: PromptableSam, crossing: Film) -> None:
    """The reference is a photo from elsewhere; the object comes in later."""
    places = {"cat": [None, *CROSSING["cat"][2:4]]}
    later = film(places)
    elsewhere = crossing.encoded[:1]
    method = fp.PerSAM(lite).fit(
        fp.Reference(crossing.frames[0], mask=crossing.masks["cat"][0]), elsewhere
    )
    session = sequence_session({"cat": method})
    encoded = lite.encode(later.frames)
    found = [session.open(encoded[0], photo=later.frames[0])]
    found += [session.step(e, f) for e, f in zip(encoded[1:], later.frames[1:], strict=True)]
    assert [bool(one["cat"].mask.any()) for one in found] == [False, True, True]
    for number in (1, 2):
        assert iou(found[number]["cat"].mask, later.masks["cat"][number]) > 0.7


def test_methods_of_several_kinds_go_side_by_side(lite: PromptableSam, crossing: Film) -> None:
    encoded = crossing.encoded[:2]
    fitted = {
        name: kind(lite).fit(fp.Reference(crossing.frames[0], mask=crossing.masks[name][0]))
        for name, kind in (("cat", fp.PerSAM), ("cup", fp.PerSAMF))
    }
    fitted["cat"].mode = "else"  # type: ignore[assignment]
    session = sequence_session(fitted)
    first = session.open(encoded[0])
    second = session.step(encoded[1])
    alone = fitted["cup"].predict_embeddings([encoded[1]])[0]
    for found in (first, second):
        assert list(found) == ["cat", "cup"] and not (found["cat"].mask & found["cup"].mask).any()
    assert second["cup"].score == alone.score


# The released scripts -----------------------------------------------------------------------------


def released(
    sam: PromptableSam, made: Film, names: list[str], weights: dict[str, Any] | None
) -> list[np.ndarray]:
    """Label maps by the released procedure, with the published predictor (section 4.3 of notes)."""
    predictor = SamPredictor(sam.sam)

    def features(pixels: np.ndarray) -> torch.Tensor:
        predictor.set_image(pixels)
        return predictor.features[0]

    def target(features: torch.Tensor, mask: np.ndarray) -> torch.Tensor:
        coloured = np.repeat((mask * np.uint8(215))[:, :, None], 3, axis=2)
        small = predictor.transform.apply_image(coloured)
        cells = sam.sam.preprocess(torch.as_tensor(small).permute(2, 0, 1)[None].float())
        cells = torch.nn.functional.interpolate(cells, features.shape[1:], mode="bilinear")[0, 0]
        found = features[:, cells > 0]
        mean = found.mean(dim=1) / 2 + found.amax(dim=1) / 2
        return mean / mean.norm()

    def prompts(features: torch.Tensor, wanted: torch.Tensor, last: np.ndarray) -> Any:
        unit = (features / features.norm(dim=0)).flatten(1)
        map_ = (wanted @ unit).view(1, 1, *features.shape[1:])
        map_ = torch.nn.functional.interpolate(map_, scale_factor=4, mode="bilinear")
        full = sam.sam.postprocess_masks(map_, predictor.input_size, predictor.original_size)[0, 0]
        best = full.flatten().topk(1 if weights else 2)[1].numpy()
        ys, xs = np.nonzero(last)
        box = np.array(
            [
                max(xs.min() - 10, 0),
                max(ys.min() - 10, 0),
                min(xs.max() + 10, last.shape[1]),
                min(ys.max() + 10, last.shape[0]),
            ]
        )
        centre = [(box[0] + box[2]) // 2, (box[1] + box[3]) // 2]
        points = np.array([*np.stack([best % last.shape[1], best // last.shape[1]], 1), centre])
        return {"point_coords": points, "point_labels": np.ones(len(points))}, box

    def box_of(mask: np.ndarray) -> np.ndarray:
        ys, xs = np.nonzero(mask)
        return np.array([xs.min(), ys.min(), xs.max(), ys.max()])

    first = features(made.frames[0])
    targets = [target(first, made.masks[name][0]) for name in names]
    last = [made.masks[name][0] for name in names]
    maps = []
    for frame in made.frames[1:]:
        seen = features(frame)
        planes = [np.zeros(last[0].shape, np.float32)]
        for name, wanted, box in zip(names, targets, last, strict=False):
            points, grown = prompts(seen, wanted, box)
            logits, _, low = predictor.predict(**points, box=grown, return_logits=True)
            if weights is not None:
                w = weights[name][:, None, None]
                second = {"box": box_of((logits * w).sum(0) > 0), "mask_input": (low * w).sum(0)}
            else:
                areas = np.array([(one > 0).sum() for one in logits]) % 256
                second = {"mask_input": low[areas.argmax()]}
            second["mask_input"] = second["mask_input"][None]
            masks, scores, low = predictor.predict(**points, **second)
            best = scores.argmax()
            logits, scores, _ = predictor.predict(
                **points, box=box_of(masks[best]), mask_input=low[best][None], return_logits=True
            )
            planes.append(logits[scores.argmax()])
        labels = np.stack(planes).argmax(axis=0)
        last = [labels == one for one in np.unique(labels) if one]
        maps.append(labels)
    return maps


@pytest.mark.parametrize("method", ["persam", "persam_f"])
def test_reference_mode_is_the_released_script(
    lite: PromptableSam, crossing: Film, method: str
) -> None:
    short = replace(crossing, frames=crossing.frames[:3], encoded=crossing.encoded[:3])
    session, encoded, _ = opened(lite, short, method, mode="reference")
    weights = None
    if method == "persam_f":
        weights = {name: one.numpy() for name, one in session._weights.items()}  # type: ignore[attr-defined]
        assert all(abs(one - 1 / 3).max() > 0.01 for one in weights.values())
    for expected, embedding in zip(
        released(lite, short, ["cat", "cup"], weights), encoded[1:], strict=True
    ):
        found = session.step(embedding)
        for number, name in enumerate(found):
            assert iou(found[name].mask, expected == number + 1) > 0.999


def test_reference_mode_shifts_labels_as_released(lite: PromptableSam, crossing: Film) -> None:
    """The cat's box is the cup's once the cat is not there, and the cup is dropped."""
    session, encoded, first = opened(lite, crossing, mode="reference")
    gone = np.zeros_like(first["cat"].mask)
    session.follow(encoded[1], {"cat": gone, "cup": CUP_ON_THE_RIGHT})
    found = session.step(encoded[2])
    assert not found["cup"].mask.any() and found["cup"].stage == "absent"
    assert found["cat"].box is not None
    grown = cv2.boundingRect(CUP_ON_THE_RIGHT.astype(np.uint8))
    assert tuple(found["cat"].box[:2] + 10) == grown[:2]


CUP_ON_THE_RIGHT = np.zeros((270, 480), bool)
CUP_ON_THE_RIGHT[150:230, 330:440] = True
