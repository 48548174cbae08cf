"""The methods that tune a part of the decoding: what every one of them keeps to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.seeded import seeded_sam, small_sam
from fiftyone_persam.errors import BadReferenceError, CheckpointError, PersamError
from fiftyone_persam.personalize import METHODS, PerSAM, Reference, method_info
from fiftyone_persam.personalize.state import read_state
from fiftyone_persam.personalize.tuning.lora import LoRA, projections
from fiftyone_persam.personalize.tuning.method import TUNED, TunedMethod
from fiftyone_persam.personalize.tuning.parts import Part
from fiftyone_persam.sam import ImageEmbedding, PromptableSam, load_sam

Array = np.ndarray[Any, Any]

# What the paper's table 5 says of SAM's decoder, in thousands, and what is tuned there.
PARAMETERS = {
    "mask_weights_3": 3,
    "prompt_tuning": 12_288,
    "adapter": 196_608,
    "lora": 294_400,
    "ssprompt": 8 * 256 + 8,
}
QUICK: dict[str, Any] = {"steps": 8, "views": 2, "presence_threshold": 0}
TABLE = pytest.mark.parametrize("name", PARAMETERS)


def build(name: str, sam: PromptableSam, **options: Any) -> Any:
    return METHODS[name](sam, **{**QUICK, **options})


def values(method: TunedMethod) -> dict[str, torch.Tensor]:
    return {n: t for n, t in method.state_dict().items() if n.startswith(TUNED)}


def logits_of(method: Any, embedding: ImageEmbedding) -> torch.Tensor:
    return method.trace(embedding)[1].passes[0].logits


@TABLE
def test_fitting_lowers_the_loss_and_leaves_the_model(
    name: str, sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    modules = list(sam.sam.modules())
    weights = {key: value.clone() for key, value in sam.sam.state_dict().items()}
    hooks = [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in modules]
    before = PerSAM(sam, presence_threshold=0).fit(reference).predict_embeddings(embeddings)

    method = build(name, sam, views=0).fit(reference, embeddings[:1])
    first, *_, last = method.course.losses
    assert sum(last[1:]) < sum(first[1:]) and method.course.best_step == QUICK["steps"]
    method.predict_embeddings(embeddings)

    assert list(sam.sam.modules()) == modules
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules] == hooks
    after = sam.sam.state_dict()
    assert all(torch.equal(after[key], value) for key, value in weights.items())
    assert all(one.grad is None for one in sam.sam.parameters())
    # A method without tuning, on the same model, sees nothing of it.
    again = PerSAM(sam, presence_threshold=0).fit(reference).predict_embeddings(embeddings)
    for a, b in zip(before, again, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)
        assert a.score == b.score


@TABLE
def test_no_step_is_where_it_starts(
    name: str, sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    method = build(name, sam, steps=0).fit(reference)
    tuned = build(name, sam, views=0).fit(reference)
    assert method.course.best_step == 0 and method.course.view_losses == ()
    assert [row[0] for row in method.course.losses] == [0]
    assert (logits_of(method, embeddings[1]) - logits_of(tuned, embeddings[1])).abs().max() > 0
    if name in ("adapter", "lora"):  # they begin with PerSAM itself
        plain = PerSAM(sam, presence_threshold=0).fit(reference)
        for a, b in zip(
            plain.predict_embeddings(embeddings), method.predict_embeddings(embeddings), strict=True
        ):
            np.testing.assert_array_equal(a.mask, b.mask)
            assert a.score == pytest.approx(b.score, abs=1e-6)


@TABLE
def test_the_same_seed_gives_the_same(
    name: str, sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    state = torch.get_rng_state()
    one, other = (build(name, sam, seed=3).fit(reference) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers are used up
    assert one.course == other.course
    for key, value in values(one).items():
        assert torch.equal(value, values(other)[key])
    assert torch.equal(logits_of(one, embeddings[1]), logits_of(other, embeddings[1]))
    third = build(name, sam, seed=4).fit(reference)
    assert third.course.view_losses != one.course.view_losses


@TABLE
def test_tuning_stops_by_views_that_it_has_not_seen(
    name: str, sam: PromptableSam, reference: Reference
) -> None:
    method = build(name, sam, steps=60, lr=0.5).fit(reference)  # so coarse that it must overshoot
    course = method.course
    losses = dict(course.view_losses)
    assert losses[course.best_step] == min(losses.values())
    assert list(losses)[-1] < 60 or course.best_step > 0


@TABLE
def test_saved_and_loaded(
    name: str,
    sam: PromptableSam,
    reference: Reference,
    embeddings: list[ImageEmbedding],
    tmp_path: Path,
) -> None:
    method = build(name, sam, seed=5).fit(reference)
    path = method.save(tmp_path / name)
    loaded = METHODS[name].load(path, sam)
    assert loaded.settings == method.settings and loaded.settings["seed"] == 5
    assert loaded.course == method.course
    for a, b in zip(
        method.predict_embeddings(embeddings), loaded.predict_embeddings(embeddings), strict=True
    ):
        np.testing.assert_array_equal(a.mask, b.mask)
    assert path.stat().st_size < 4 * method.parameters + 400_000

    tensors, header = read_state(path)
    assert header["method"] == name
    settings = header["settings"]
    missing = {key: one for key, one in tensors.items() if not key.startswith(TUNED)}
    with pytest.raises(CheckpointError, match="other tuned values"):
        METHODS[name].from_state(sam, missing, settings)


@pytest.fixture(scope="module")
def as_sam() -> PromptableSam:
    """A model with SAM's own decoder: 256 channels, two blocks, eight heads."""
    return load_sam(seeded_sam(), dtype="float32")


@TABLE
def test_as_many_numbers_as_in_the_papers_table(
    name: str, as_sam: PromptableSam, sam: PromptableSam, reference: Reference
) -> None:
    assert build(name, as_sam).parameters == PARAMETERS[name]
    method = build(name, sam).fit(reference)
    fitted = values(method)
    fitted.pop(TUNED + "target", None)  # SSPrompt's frozen target feature
    assert sum(one.numel() for one in fitted.values()) == method.parameters


@TABLE
@pytest.mark.parametrize(
    "switch", ["guided_attention", "semantic_prompt", "negative_prior", "post_refinement"]
)
def test_what_can_be_combined(
    name: str,
    switch: str,
    sam: PromptableSam,
    reference: Reference,
    embeddings: list[ImageEmbedding],
) -> None:
    on, off = (build(name, sam, steps=2, **{switch: yes}).fit(reference) for yes in (True, False))
    batches = [method.trace(embeddings[1]) for method in (on, off)]
    assert not torch.equal(batches[0][1].logits, batches[1][1].logits)
    if switch != "post_refinement":  # the part has been tuned with it, too
        assert on.course.losses != off.course.losses


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "mask_weights_3"])
def test_the_frozen_decoder_refines(
    name: str, sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    first, every = (
        build(name, sam, lr=0.05, tuned_passes=passes).fit(reference) for passes in ("first", "all")
    )
    batch, mine = first.trace(embeddings[1])
    _, other = every.trace(embeddings[1])
    assert torch.equal(mine.passes[0].logits, other.passes[0].logits)
    assert not torch.equal(mine.passes[1].logits, other.passes[1].logits)
    # The first pass's mask in the untuned model's own second pass.
    points = batch.points * np.asarray(embeddings[1].scale)
    with torch.inference_mode():
        logits, scores = sam.decode_tensors(
            batch.features,
            torch.as_tensor(points, dtype=torch.float32),
            torch.as_tensor(batch.labels, dtype=torch.float32)[None],
            masks=mine.passes[0].logits[:, None],
        )
    best = 1 + int(scores[0, 1:].argmax())
    torch.testing.assert_close(logits[0, best], mine.passes[1].logits[0], atol=1e-4, rtol=1e-4)


@TABLE
def test_several_references_and_negatives(
    name: str, sam: PromptableSam, photos: list[Array], reference: Reference
) -> None:
    tall = Reference(photos[1], box=(20, 40, 150, 250))
    alone = build(name, sam).fit(reference)
    both = build(name, sam).fit([reference, tall])
    assert both.course.losses[0] != alone.course.losses[0]
    found = both.predict(photos[2:])
    assert [one.mask.shape for one in found] == [photo.shape[:2] for photo in photos[2:]]
    not_it = Reference(photos[3], box=(10, 10, 120, 120))
    apart = build(name, sam).fit(reference, negatives=not_it)
    assert apart.state.negative_targets is not None
    # An object that is absent gets an empty mask, as with PerSAM.
    sure = build(name, sam, presence_threshold=1.0).fit(reference)
    assert not any(one.mask.any() for one in sure.predict(photos[2:]))


@TABLE
def test_the_released_location_prior(
    name: str, sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    method = build(name, sam, mode="reference", resolution="original").fit(reference)
    batch, _ = method.trace(embeddings[1])
    usual, _ = PerSAM(sam, mode="reference").fit(reference).trace(embeddings[1])
    np.testing.assert_array_equal(batch.points, usual.points)


@TABLE
def test_the_loss_at_the_photos_own_size(
    name: str, sam: PromptableSam, reference: Reference
) -> None:
    low, whole = (
        build(name, sam, steps=1, resolution=size).fit(reference) for size in ("low", "original")
    )
    assert low.course.losses[0] != whole.course.losses[0]
    assert low.course.losses[0][1:] == pytest.approx(whole.course.losses[0][1:], abs=0.1)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        *((name, {"steps": -1}, r"steps -1 .*: use \d+, or from 0") for name in PARAMETERS),
        *((name, {"views": 65}, "views 65 .*: give 0 to 64") for name in PARAMETERS),
        ("lora", {"rank": 0}, "rank 0 .*: give 1"),
        ("lora", {"lr": 0}, "lr 0 .*: use 0.001, or another above 0"),
        ("lora", {"seed": -1}, "seed -1 .*: give a whole number"),
        ("lora", {"resolution": "high"}, "resolution 'high' is not known: use 'low' or 'original'"),
        ("lora", {"presence_threshold": 2}, "presence_threshold 2 .*: give one of 0 to 1"),
        ("adapter", {"width": 1.5}, "width 1.5 .*: give 1"),
        ("prompt_tuning", {"tokens": "24"}, "tokens '24' .*: give 1"),
        ("ssprompt", {"learn": "all"}, "learn 'all' is not known: use 'both'"),
        ("ssprompt", {"spatial": -1}, "spatial -1 .*: give 0"),
        ("ssprompt", {"spatial": 0, "semantic": 0}, "nothing to learn: "),
    ],
)
def test_bad_options(name: str, options: dict[str, Any], says: str, sam: PromptableSam) -> None:
    with pytest.raises(PersamError, match=says) as caught:
        METHODS[name](sam, **options)
    assert "\n" not in str(caught.value)


def test_options_of_the_base_follow_a_methods_own() -> None:
    names = [option.name for option in method_info("lora").options]
    assert names[:3] == ["mode", "rank", "lr"]
    assert {"steps", "views", "seed", "guided_attention", "several_references"} <= set(names)
    assert len(names) == len(set(names))
    with pytest.raises(PersamError, match="'rank' is not an option of adapter"):
        method_info("adapter").check({"rank": 4})


class Broken(Part):
    """Logits that are not numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(torch.nan))

    def read(self, logits: torch.Tensor) -> torch.Tensor:
        return logits[:, 0] * self.factor


class BrokenMethod(TunedMethod):
    name = title = help = "broken"

    def part(self, generator: torch.Generator) -> Broken:
        return Broken()


def test_a_loss_that_is_not_a_number_ends_in_one_line(
    sam: PromptableSam, reference: Reference
) -> None:
    method = BrokenMethod(sam, lr=0.5)
    with pytest.raises(PersamError, match="not a number after 0 steps: use a smaller lr than 0"):
        method.fit(reference)
    with pytest.raises(PersamError, match="knows no object yet"):
        method.state_dict()


def test_low_ranks_are_those_of_peft(
    reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    """`peft`, which replaces layers, gives the same logits from the same numbers."""
    peft = pytest.importorskip("peft")
    own = load_sam(small_sam(192), dtype="float32")
    method = LoRA(own, rank=4, steps=8, views=0).fit(reference)
    found = logits_of(method, embeddings[1])

    replaced = small_sam(192)
    config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj", "v_proj"])
    peft.inject_adapter_in_model(config, replaced.mask_decoder)
    layers = projections(replaced.mask_decoder)
    part = method.tuned_part()
    for layer, change in zip(layers, part.changes, strict=True):
        layer.lora_A["default"].weight.data.copy_(change.a)
        layer.lora_B["default"].weight.data.copy_(change.b)
    plain = PerSAM(load_sam(replaced, dtype="float32"), presence_threshold=0).fit(reference)
    torch.testing.assert_close(found, logits_of(plain, embeddings[1]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("learn", ["both", "tokens", "gates"])
def test_ssprompt_learns_what_it_is_told(
    learn: str, sam: PromptableSam, reference: Reference
) -> None:
    options = {"learn": learn, "spatial": 6, "semantic": 2}
    method = build("ssprompt", sam, views=0, **options).fit(reference)
    names = {key.removeprefix(TUNED) for key in values(method)} - {"target"}
    assert (
        names
        == {
            "both": {"spatial", "semantic", "gates"},
            "tokens": {"spatial", "semantic"},
            "gates": {"gates"},
        }[learn]
    )
    start = values(
        build("ssprompt", sam, learn=learn, spatial=6, semantic=2, steps=0).fit(reference)
    )
    if learn != "gates":
        torch.testing.assert_close(start[TUNED + "semantic"][1], method.state.embeddings[0])
        # Six tokens of four points: the fifth begins as the first.
        assert torch.equal(start[TUNED + "spatial"][4], start[TUNED + "spatial"][0])
    for name in names:
        assert not torch.equal(start[TUNED + name], values(method)[TUNED + name])


def test_ssprompt_takes_one_to_sixteen_photos(sam: PromptableSam, photos: list[Array]) -> None:
    references = [Reference(photos[k % 4], box=(5 + k, 5 + k, 100 + k, 120 + k)) for k in range(17)]
    method = build("ssprompt", sam, steps=2).fit(references[:16])
    assert len(method.state.targets) == 16
    with pytest.raises(BadReferenceError, match="from 1 to 16 references, not 17"):
        build("ssprompt", sam).fit(references)


def test_gates_alone_begin_with_the_frozen_prompts(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    options = {"learn": "gates", "semantic": 0, "steps": 0}
    method = build("ssprompt", sam, **options).fit(reference)
    plain = PerSAM(sam, presence_threshold=0).fit(reference)
    torch.testing.assert_close(
        logits_of(method, embeddings[1]), logits_of(plain, embeddings[1]), atol=1e-4, rtol=1e-4
    )


def test_a_tuned_decoder_shares_the_weights(sam: PromptableSam, reference: Reference) -> None:
    method = build("lora", sam).fit(reference)
    own = method.tuned_part().decoder(sam).sam.mask_decoder
    assert own is not sam.sam.mask_decoder
    pairs = zip(own.parameters(), sam.sam.mask_decoder.parameters(), strict=True)
    assert all(a.data_ptr() == b.data_ptr() for a, b in pairs)
    assert isinstance(own, nn.Module) and not any(one.requires_grad for one in own.parameters())


def test_gradients_are_taken_in_full_precision(reference: Reference) -> None:
    coarse = load_sam(small_sam(192), dtype="bfloat16")
    method = build("lora", coarse, views=0).fit(reference)
    assert coarse.sam.mask_decoder.iou_token.weight.dtype == torch.bfloat16
    first, *_, last = method.course.losses
    assert sum(last[1:]) < sum(first[1:])
    assert {one.dtype for one in method.tuned_part().parameters()} == {torch.float32}
    (found,) = method.predict([reference.photo])
    assert found.mask.shape == reference.size
    own = load_sam(small_sam(192), dtype="float32")
    exact = build("lora", own, views=0).fit(reference)
    assert method.course.losses[-1][1:] == pytest.approx(exact.course.losses[-1][1:], abs=0.02)
