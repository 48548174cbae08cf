"""EVF-SAM's parts put together, its published names, its decoder, and the model around it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as transforms
from PIL import Image
from segment_anything.build_sam import build_sam_vit_h
from skimage import data
from torch import Tensor

from benchmarks.seeded import small_sam
from fiftyone_persam.engine.cache import MemoryCache, embedding_key, encode_files
from fiftyone_persam.errors import CheckpointError, PersamError
from fiftyone_persam.sam import Prompt, TextPromptable, TextSam, list_models, load_sam, registry
from fiftyone_persam.sam.checkpoints import Checkpoint, model_zoo_dir
from fiftyone_persam.sam.model import PromptableSam
from fiftyone_persam.sam.text import published
from fiftyone_persam.sam.text.beit3 import BEIT3_BASE, BEIT3_LARGE
from fiftyone_persam.sam.text.evf import EvfSam, build_evf, config_of
from fiftyone_persam.sam.text.model import overview_of
from tests.small_evf import CONFIG, SIDE, checkpoint, publish, small_evf, small_text_sam

PHRASES = ("the blue mug", "a dog on the left")


@pytest.fixture(autouse=True)
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIFTYONE_MODEL_ZOO_DIR", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


@pytest.fixture(scope="module")
def photos() -> list[Any]:
    return [data.chelsea(), np.ascontiguousarray(data.coffee()[::2, ::2])]


@pytest.fixture(scope="module")
def model() -> TextSam:
    return small_text_sam()


# The architecture ---------------------------------------------------------------------------------


def test_the_published_checkpoint_has_room_for_just_these_weights() -> None:
    """Numbers of 2 bytes, and less than 400 bytes of the file around each tensor."""
    with torch.device("meta"):
        evf = EvfSam(build_sam_vit_h(), BEIT3_LARGE)
    state = evf.state_dict()
    numbers = sum(tensor.numel() for tensor in state.values())
    beside = published.EVF_SAM_WEIGHTS.bytes - 2 * numbers
    assert 0 < beside < 400 * len(state)
    rounded = published.MULTITASK_WEIGHTS
    assert rounded.rounded and rounded.fits(2 * numbers) and not rounded.fits(numbers)


def test_the_published_names() -> None:
    names = small_evf().state_dict().keys()
    for name in (
        "visual_model.image_encoder.patch_embed.proj.weight",
        "visual_model.mask_decoder.mask_tokens.weight",
        "visual_model.prompt_encoder.no_mask_embed.weight",
        "mm_extractor.beit3.text_embed.weight",
        "mm_extractor.beit3.vision_embed.cls_token",
        "mm_extractor.beit3.encoder.layers.1.self_attn.k_proj.A.weight",
        "mm_extractor.beit3.encoder.layers.0.ffn.B.fc1.weight",
        "text_hidden_fcs.0.0.weight",
        "text_hidden_fcs.0.2.bias",
    ):
        assert name in names
    heads = {name.partition(".")[0] for name in names}
    assert heads == {"visual_model", "mm_extractor", "text_hidden_fcs"}


@pytest.mark.parametrize("config", [BEIT3_BASE, BEIT3_LARGE, CONFIG])
def test_sizes_are_read_from_the_weights(config: Any) -> None:
    sam = small_sam(SIDE)
    with torch.device("meta"):
        state = EvfSam(sam, config).state_dict()
    read = config_of(state, Path("x.bin"))
    assert (read.width, read.layers, read.hidden) == (config.width, config.layers, config.hidden)
    assert read.image_size == config.image_size and read.positions == config.positions
    if config is not CONFIG:  # whose heads are narrower than BEiT-3's
        assert read == config


def test_the_prompt_is_cls_through_two_layers(model: TextSam, photos: list[Any]) -> None:
    evf = small_evf()
    image = overview_of(photos[0], CONFIG.image_size)[None]
    ids = torch.tensor([model.tokenizer.encode(PHRASES[0])])
    with torch.no_grad():
        cls = evf.mm_extractor["beit3"](image, ids)[:, 0]
        first, _, second = evf.text_hidden_fcs[0]
        expected = second(torch.relu(first(cls)))[:, None]
        found = model.phrase_tokens(PHRASES[0], model.encode(photos[:1]))
    assert found.shape == (1, 1, model.embed_dim)
    torch.testing.assert_close(found, expected)


# What BEiT-3 sees ---------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1])
def test_the_overview_is_the_released_codes(photos: list[Any], index: int) -> None:
    """Resized by torchvision as a float tensor, bicubic, without antialiasing; mean = std = 0.5."""
    tensor = transforms.to_dtype(transforms.to_image(photos[index]), torch.float32, scale=True)
    bicubic = transforms.InterpolationMode.BICUBIC
    small = transforms.resize(tensor, [224, 224], bicubic, antialias=False)
    expected = transforms.normalize(small, [0.5] * 3, [0.5] * 3)
    torch.testing.assert_close(overview_of(photos[index], 224), expected, rtol=0, atol=1e-5)


def test_every_embedding_carries_its_overview(
    model: TextSam, photos: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "cat.png"
    Image.fromarray(photos[0]).save(path)
    for source in (photos[0], str(path), Image.fromarray(photos[0])):
        (embedding,) = model.encode([source])
        assert torch.equal(embedding.overview, overview_of(photos[0], CONFIG.image_size))
    bare = PromptableSam(small_evf().visual_model).encode(photos[:1])[0]
    assert bare.overview is None and torch.equal(bare.features, embedding.features)
    with pytest.raises(PersamError, match="lacks the overview of its photo"):
        model.phrase_tokens(PHRASES[0], [bare])
    assert torch.equal(model.complete(bare, str(path)).overview, embedding.overview)


# The decoder --------------------------------------------------------------------------------------


@pytest.mark.parametrize("phrase", PHRASES)
def test_decoding_equals_segment_anythings(model: TextSam, photos: list[Any], phrase: str) -> None:
    embeddings = model.encode(photos)
    tokens = model.phrase_tokens(phrase, embeddings)
    features = torch.stack([embedding.features for embedding in embeddings])
    with torch.no_grad():
        logits, scores = model.decode_tensors(features, tokens=tokens)
        sam = small_evf().visual_model
        _, dense = sam.prompt_encoder(points=None, boxes=None, masks=None)
        for index, embedding in enumerate(embeddings):
            theirs, theirs_scores = sam.mask_decoder(
                image_embeddings=embedding.features[None],
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=tokens[index][None],
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            torch.testing.assert_close(logits[index, 0], theirs[0, 0], rtol=0, atol=1e-4)
            torch.testing.assert_close(scores[index, 0], theirs_scores[0, 0], rtol=0, atol=1e-5)
            same = model.decode([Prompt(embedding, tokens=tokens[index])])[0]
            torch.testing.assert_close(same.logits[0], logits[index, 0], rtol=0, atol=1e-4)


def test_phrases_change_what_is_found(model: TextSam, photos: list[Any]) -> None:
    (embedding,) = model.encode(photos[:1])
    found = [
        model.decode([Prompt(embedding, tokens=model.phrase_tokens(phrase, [embedding])[0])])[0]
        for phrase in PHRASES
    ]
    assert not torch.allclose(found[0].logits, found[1].logits, atol=1e-2)


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("half", [False, True])
def test_saved_and_loaded_by_the_published_names(suffix: str, half: bool) -> None:
    state = small_evf().state_dict()
    if half:  # as published
        state = {name: tensor.half() for name, tensor in state.items()}
    entry = publish(state=state, suffix=suffix)
    loaded = entry.load(torch.device("cpu"), torch.float32, download=False)
    assert isinstance(loaded, TextSam) and isinstance(loaded, TextPromptable)
    assert loaded.checkpoint_sha256 == entry.weights.sha256
    again = loaded._evf.state_dict()
    assert again.keys() == state.keys()
    for name, tensor in again.items():
        assert torch.equal(tensor, state[name].float()), name
    info = entry.info()
    assert info.text and info.available and info.license == "Apache-2.0"


def test_what_the_list_says_of_the_published_ones(zoo: Path) -> None:
    models = {info.name: info for info in list_models()}
    for name in ("evf_sam", "evf_sam_multitask"):
        info = models[name]
        assert info.text and not info.available and info.license == "Apache-2.0"
        assert info.source.startswith("https://huggingface.co/YxZhang/")
        assert info.path.parent == zoo
    assert not any(info.text for name, info in models.items() if "evf" not in name)


@pytest.mark.parametrize("name", ["evf_sam", "evf_sam_multitask"])
def test_a_missing_file_says_what_to_download(name: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_sam(name, device="cpu", download=False)
    says = str(caught.value)
    assert "is missing: get it from https://huggingface.co/YxZhang/evf-sam/" in says
    assert "licence Apache-2.0" in says and "\n" not in says


def test_a_file_of_another_model(zoo: Path) -> None:
    sam = {f"visual_model.{name}": tensor for name, tensor in small_sam(SIDE).state_dict().items()}
    with pytest.raises(CheckpointError, match=r"is not of EVF-SAM, .*vision_embed"):
        publish(state=sam).load(torch.device("cpu"), torch.float32, download=False)
    other = small_evf().state_dict()
    other["text_hidden_fcs.0.2.bias"] = torch.zeros(7)
    with pytest.raises(CheckpointError, match="belongs to another model: 1 tensors differ"):
        publish(state=other).load(torch.device("cpu"), torch.float32, download=False)


def test_weights_that_are_changed_on_the_disk(zoo: Path) -> None:
    entry = publish()
    content = bytearray(entry.weights.path.read_bytes())
    content[len(content) // 2] ^= 1
    entry.weights.path.write_bytes(content)
    with pytest.raises(CheckpointError, match="has sha256"):
        entry.load(torch.device("cpu"), torch.float32, download=False)
    entry.weights.path.write_bytes(content[:-9])
    assert not entry.info().available


# The frozen image encoder ------------------------------------------------------------------------


def publish_original(monkeypatch: pytest.MonkeyPatch, sam: Any) -> Checkpoint:
    path = model_zoo_dir() / "original.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(sam.state_dict(), path)
    monkeypatch.setitem(registry.CHECKPOINTS, "sam_vit_h", checkpoint(path))
    monkeypatch.setitem(registry._VITS, "sam_vit_h", lambda: small_sam(SIDE))
    return registry.CHECKPOINTS["sam_vit_h"]


def halves(through: torch.dtype = torch.float32) -> dict[str, Tensor]:
    state = small_evf().state_dict()
    return {name: tensor.to(through).half() for name, tensor in state.items()}


@pytest.mark.parametrize("through", [torch.float32, torch.bfloat16])
def test_embeddings_of_the_original_are_reused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: list[Any], through: torch.dtype
) -> None:
    """The copy has half the precision; the original takes its place where a hash says so."""
    original = publish_original(monkeypatch, small_evf().visual_model)
    entry = publish(state=halves(through), frozen_encoder="sam_vit_h")
    ours = entry.load(torch.device("cpu"), torch.float32, download=False)
    theirs = load_sam("sam_vit_h", device="cpu", download=False)
    assert ours.encoder_identity == theirs.encoder_identity == original.sha256
    assert ours.identity != theirs.identity
    path = tmp_path / "cat.png"
    Image.fromarray(photos[0]).save(path)
    assert embedding_key(ours, str(path)) == embedding_key(theirs, str(path))

    cache = MemoryCache()
    (first,) = encode_files(theirs, [str(path)], cache)
    encoded: list[int] = []
    ours.sam.image_encoder.register_forward_hook(lambda m, a, out: encoded.append(1))
    (again,) = encode_files(ours, [str(path)], cache)
    assert not encoded and torch.equal(again.features, first.features)
    (fresh,) = ours.encode([str(path)])
    assert encoded and torch.equal(fresh.features, again.features)
    assert torch.equal(fresh.overview, again.overview)
    tokens = [ours.phrase_tokens(PHRASES[0], [embedding]) for embedding in (again, fresh)]
    assert torch.equal(*tokens)
    # As a device that resizes photos itself has made and kept it.
    by_device = MemoryCache()
    key = embedding_key(theirs, str(path), raw=True)
    assert key is not None
    by_device.put(key, first)
    encoded.clear()
    (taken,) = encode_files(ours, [str(path)], by_device)
    assert not encoded and torch.equal(taken.features, first.features)
    assert taken.overview is not None


def test_another_encoder_keeps_its_embeddings_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = small_sam(SIDE)
    with torch.no_grad():
        other.image_encoder.pos_embed += 0.01
    publish_original(monkeypatch, other)
    entry = publish(state=halves(), frozen_encoder="sam_vit_h")
    ours = entry.load(torch.device("cpu"), torch.float32, download=False)
    assert ours.encoder_identity == ours.identity == entry.weights.sha256
    assert "their embeddings are kept apart" in caplog.text
    path = registry.CHECKPOINTS["sam_vit_h"].path
    path.write_bytes(path.read_bytes()[:-1] + b"!")  # of the right size, and damaged
    again = entry.load(torch.device("cpu"), torch.float32, download=False)
    assert again.encoder_identity == entry.weights.sha256
    assert "keeps its own image encoder" in caplog.text


# The model ---------------------------------------------------------------------------------------


def test_it_travels(model: TextSam, photos: list[Any]) -> None:
    """To another process, and to another device and type."""
    (embedding,) = model.encode(photos[:1])
    tokens = model.phrase_tokens(PHRASES[0], [embedding])
    sent = pickle.loads(pickle.dumps(model.on("cpu")))
    assert sent.identity == model.identity
    assert torch.equal(sent.phrase_tokens(PHRASES[0], [embedding]), tokens)
    assert model.on("cpu") is model
    meta = model.on("meta")
    assert isinstance(meta, TextSam) and meta.device.type == "meta"
    for dtype, error in ((torch.bfloat16, 0.1), (torch.float16, 0.02)):
        half = small_text_sam(dtype=dtype)
        coarse = half.phrase_tokens(PHRASES[0], half.encode(photos[:1]))
        assert coarse.dtype == torch.float32 and 0 < (coarse - tokens).abs().max() < error


def test_its_identity_names_all_its_weights(model: TextSam) -> None:
    assert model.identity == small_text_sam().identity
    changed = small_evf()
    with torch.no_grad():
        changed.text_hidden_fcs[0][0].bias += 1
    assert TextSam(changed, model.tokenizer).identity != model.identity
    other = small_evf()
    with torch.no_grad():
        other.visual_model.mask_decoder.iou_token.weight += 1
    assert TextSam(other, model.tokenizer).identity != model.identity


def test_weights_of_your_own(photos: list[Any]) -> None:
    evf = build_evf(small_sam(SIDE), small_evf().state_dict(), Path("mine.bin"))
    assert not any(weights.requires_grad for weights in evf.parameters())
    assert load_sam(model := small_text_sam()) is model
