"""The protocol of methods: registered by name, saved with any tensors, fitted with gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import fiftyone_persam as fp
from fiftyone_persam.errors import BadReferenceError, CheckpointError, PersamError
from fiftyone_persam.options import Option
from fiftyone_persam.personalize import (
    LOCATION_PRIORS,
    METHODS,
    CascadeMethod,
    PerSAM,
    Reference,
    TextReference,
    list_methods,
    session_of,
)
from fiftyone_persam.personalize.location import AlignedPrior, ReferenceView
from fiftyone_persam.personalize.session import FrameByFrame
from fiftyone_persam.sam import ImageEmbedding, PromptableSam

Array = np.ndarray[Any, Any]


class TunedToken(CascadeMethod):
    """Trains one prompt token on the reference's mask, through the decoder."""

    name = "tuned_token"
    title = "Tuned token"
    help = "trains a prompt token"

    def __init__(self, sam: Any, *, rounds: Annotated[int, Option("steps", low=1)] = 8) -> None:
        super().__init__(sam, presence_threshold=0)
        self.rounds = rounds
        self.sam = self.sam.frozen()
        self.losses: list[float] = []

    def tune(self, state: Any, views: Sequence[ReferenceView], masks: Sequence[Array]) -> Any:
        (view,) = views
        target = F.interpolate(
            view.foreground[None, None].float(), (self.sam.mask_size,) * 2, mode="nearest"
        )[0]
        token = torch.zeros(1, self.sam.embed_dim, requires_grad=True)
        optimiser = torch.optim.Adam([token], lr=0.05)
        for _ in range(self.rounds):
            logits, _ = self.sam.decode_tensors(view.embedding.features[None], tokens=token)
            loss = F.binary_cross_entropy_with_logits(logits[0, :1], target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            self.losses.append(loss.item())
        return replace(state, more={**state.more, "tuned.token": token.detach()})

    def prompt_tokens(self) -> Tensor | None:
        return self.state.more["tuned.token"]


@pytest.fixture
def registered() -> Iterator[None]:
    METHODS.register(TunedToken)
    yield
    METHODS.unregister("tuned_token")


def test_methods_say_what_they_are() -> None:
    infos = {info.name: info for info in list_methods()}
    assert list(infos)[:2] == ["persam_f", "persam"] and "evf_sam" in infos
    tuned = {"mask_weights_3", "prompt_tuning", "adapter", "lora", "ssprompt"}
    assert tuned <= set(infos)
    assert infos["persam"].title == "PerSAM" and infos["persam"].help == PerSAM.help
    options = {option.name: option for option in infos["persam_f"].options}
    assert {"mode", "steps", "lr", "scale_tuning", "negative_prior"} <= set(options)
    assert options["negative_prior"].default is False and options["steps"].high == 100_000
    assert {one.name: one.default for one in infos["persam"].options}["negative_prior"] is True
    assert all(option.help for info in infos.values() for option in info.options)
    assert infos["persam"].references == ("mask", "box", "points")
    assert "steps" not in {option.name for option in infos["persam"].options}
    with pytest.raises(PersamError, match="'stepss' is not an option of persam_f"):
        infos["persam_f"].check({"stepss": 3})
    with pytest.raises(PersamError, match="steps -1 is out of range"):
        infos["persam_f"].check({"steps": -1})


def test_fitting_takes_gradients_through_the_decoder(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding], tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in sam.sam.state_dict().items()}
    method = TunedToken(sam).fit(reference)
    assert method.losses[-1] < method.losses[0]
    assert all(torch.equal(before[name], value) for name, value in sam.sam.state_dict().items())
    assert all(weights.grad is None for weights in sam.sam.parameters())

    plain = PerSAM(sam, presence_threshold=0).fit(reference)
    pairs = zip(
        method.predict_embeddings(embeddings), plain.predict_embeddings(embeddings), strict=True
    )
    assert any(a.score != b.score for a, b in pairs)
    loaded = TunedToken.load(method.save(tmp_path / "tuned"), sam)
    assert torch.equal(loaded.state.more["tuned.token"], method.state.more["tuned.token"])
    for a, b in zip(
        method.predict_embeddings(embeddings), loaded.predict_embeddings(embeddings), strict=True
    ):
        np.testing.assert_array_equal(a.mask, b.mask)


def test_embeddings_can_take_part_in_a_backward_pass(
    sam: PromptableSam, photos: list[Array]
) -> None:
    resized, size = sam.load_and_resize(photos[0])
    (plain,) = sam.encode_resized([resized], [size])
    assert not plain.features.requires_grad
    token = torch.zeros(1, sam.embed_dim, requires_grad=True)
    logits, _ = sam.decode_tensors(plain.features[None], tokens=token)
    (gradient,) = torch.autograd.grad(logits.sum(), token)
    assert gradient.abs().sum() > 0
    (through,) = sam.encode_resized([resized], [size], grad=True)
    assert through.features.requires_grad
    np.testing.assert_array_equal(through.features.detach(), plain.features)


def test_a_method_that_is_registered_can_be_named(registered: None) -> None:
    assert "tuned_token" in [info.name for info in fp.list_methods()]
    assert METHODS["tuned_token"] is TunedToken
    with pytest.raises(PersamError, match="there is a method 'tuned_token' already"):
        METHODS.register(TunedToken)
    with pytest.raises(PersamError, match="did you mean 'tuned_token'"):
        METHODS["tunedtoken"]


def test_text_is_a_reference_of_its_own_kind(sam: PromptableSam, reference: Reference) -> None:
    text = TextReference("  the blue\n mug ")
    assert text.text == "the blue mug" and text.kind == "text" and reference.kind == "mask"
    again = TextReference("the blue mug")
    assert text == again and len({text, again}) == 1
    with pytest.raises(BadReferenceError, match=r"PerSAM does not take .* kind 'text': "):
        PerSAM(sam).fit(text)  # type: ignore[arg-type]
    with pytest.raises(BadReferenceError, match="kind 'text'"):
        PerSAM(sam).fit([reference, text])  # type: ignore[list-item]
    with pytest.raises(BadReferenceError, match="fit needs a Reference"):
        PerSAM(sam).fit("the blue mug")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "is empty: "),
        (" \n ", "is empty: "),
        (None, "from NoneType: "),
        ("mug " * 500, "has 500 words: "),
    ],
)
def test_texts_that_say_nothing(given: Any, says: str) -> None:
    with pytest.raises(BadReferenceError, match=says):
        TextReference(given)


class Shifted(AlignedPrior):
    """Remembers a tensor, and turns the map upside down."""

    name = "shifted"
    help = "for this test"
    suppresses = False
    presence_threshold = 0.0

    def fit(self, views: Sequence[ReferenceView]) -> dict[str, Tensor]:
        return {"sign": -torch.ones(1)}

    def similarity(
        self, features: Tensor, valid: Tensor, targets: Tensor, fitted: Mapping[str, Tensor]
    ) -> Tensor:
        return super().similarity(features, valid, targets, fitted) * fitted["sign"]


def test_a_location_prior_of_ones_own(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding], tmp_path: Path
) -> None:
    LOCATION_PRIORS.register(Shifted)
    try:
        one = {"positive_points": 1}
        method = PerSAM(sam, location_prior="shifted", **one).fit(reference)
        assert method.presence_threshold == 0.0
        aligned = PerSAM(sam, location_prior="aligned", **one).fit(reference)
        usual = aligned.locate(embeddings)[0]
        found = method.locate(embeddings)[0]
        np.testing.assert_array_equal(found.similarity, -usual.similarity)
        np.testing.assert_array_equal(found.points, usual.points[:, ::-1])
        loaded = PerSAM.load(method.save(tmp_path / "shifted"), sam)
        assert torch.equal(loaded.locate(embeddings)[0].similarity, found.similarity)
        with pytest.raises(PersamError, match="finds one object"):
            PerSAM(sam, location_prior="shifted", max_instances=2)
    finally:
        LOCATION_PRIORS.unregister("shifted")
    with pytest.raises(PersamError, match="location prior 'shifted' is not known: "):
        PerSAM(sam, location_prior="shifted")
    with pytest.raises(PersamError, match="mode='reference' locates the object"):
        PerSAM(sam, "reference", location_prior="aligned")


def test_states_of_other_versions_are_refused(
    sam: PromptableSam, reference: Reference, tmp_path: Path
) -> None:
    from fiftyone_persam.personalize.state import VERSION, read_state, write_state

    tensors, header = read_state(PerSAM(sam).fit(reference).save(tmp_path / "new"))
    assert header["version"] == VERSION
    old = {name: tensors[name] for name in ("targets", "embeddings", "levels")}
    with pytest.raises(CheckpointError, match="version 1, this package reads"):
        PerSAM.load(write_state(tmp_path / "old", old, {**header, "version": 1}), sam)
    with pytest.raises(CheckpointError, match="lacks tensors: fit and save it again"):
        PerSAM.load(write_state(tmp_path / "part", old, header), sam)
    settings = {**header["settings"]}
    settings.pop("positive_points")  # a setting with a default may be missing
    assert PerSAM.load(
        write_state(tmp_path / "few", tensors, {**header, "settings": settings}), sam
    )
    with pytest.raises(CheckpointError, match="settings that this version does not know"):
        more = {**header, "settings": {**settings, "speed": 3}}
        PerSAM.load(write_state(tmp_path / "newer", tensors, more), sam)


def test_the_default_session_treats_frames_as_photos(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    method = PerSAM(sam).fit(reference)
    session = method.session()
    found = [session.open(embeddings[0]), *map(session.step, embeddings[1:])]
    for a, b in zip(found, method.predict_embeddings(embeddings, batch_size=1), strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)

    class Bare:
        def predict_embeddings(self, given: Sequence[Any]) -> list[Any]:
            return list(given)

    assert isinstance(session_of(Bare()), FrameByFrame)
    assert session_of(Bare()).open(embeddings[0]) is embeddings[0]
