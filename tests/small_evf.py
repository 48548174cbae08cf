"""A small EVF-SAM in the published names and file formats, and a tokenizer trained on the spot."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import Tensor

from benchmarks.seeded import seeded_weights, small_sam
from fiftyone_persam.sam import MODELS, TextSam
from fiftyone_persam.sam.checkpoints import Checkpoint, model_zoo_dir
from fiftyone_persam.sam.text.beit3 import BeitConfig
from fiftyone_persam.sam.text.evf import EvfSam
from fiftyone_persam.sam.text.published import PublishedEvfSam
from fiftyone_persam.sam.text.tokens import PhraseTokenizer

NAME = "small_evf"
SIDE = 192
CONFIG = BeitConfig(
    width=32, layers=2, heads=2, hidden=64, vocabulary=128, image_size=64, positions=300
)
ADDED = {"[semantic]": 120}
WORDS = "the a blue red green mug cup toy dog cat on left right table of with and in front"


@functools.cache
def tokenizer_model() -> bytes:
    """A sentencepiece model of a few English words, with the special ids of XLM-R's."""
    words = WORDS.split()
    lines = [f"the {a} {b}" for a in words for b in words]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=100,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


def tokenizer() -> PhraseTokenizer:
    return PhraseTokenizer(tokenizer_model(), ADDED)


def small_evf() -> EvfSam:
    """Seeded weights: what it finds means nothing, but depends on photo and phrase."""
    evf = EvfSam(small_sam(SIDE), CONFIG)
    own = {
        name: tuple(tensor.shape)
        for name, tensor in evf.state_dict().items()
        if not name.startswith("visual_model.")
    }
    found = {name: torch.from_numpy(values) for name, values in seeded_weights(own)}
    # The rule makes tokens faint beside SAM's own, and phrases would hardly differ.
    found["text_hidden_fcs.0.2.weight"] *= 4
    evf.load_state_dict(found, strict=False)
    return evf.eval().requires_grad_(False)


def small_text_sam(**settings: Any) -> TextSam:
    return TextSam(small_evf(), tokenizer(), NAME, **settings)


def publish(
    name: str = NAME, state: dict[str, Tensor] | None = None, **settings: Any
) -> PublishedEvfSam:
    """Its files in the zoo's folder, as if downloaded, and the entry that names them."""
    folder = model_zoo_dir()
    folder.mkdir(parents=True, exist_ok=True)
    suffix = settings.pop("suffix", ".bin")
    tensors = {n: t.contiguous() for n, t in (state or small_evf().state_dict()).items()}
    path = folder / f"{name}{suffix}"
    if suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    spm = folder / f"{name}.bpe.model"
    spm.write_bytes(tokenizer_model())
    entry = PublishedEvfSam(
        name,
        "for tests",
        checkpoint(path),
        checkpoint(spm),
        build=lambda: small_sam(SIDE),
        frozen_encoder="",
        image_size=SIDE,
    )
    return replace(entry, **{"added": ADDED, **settings})


def checkpoint(path: Path) -> Checkpoint:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return Checkpoint(
        path.name, f"https://example.org/{path.name}", len(content), sha256, "Apache-2.0"
    )


@contextmanager
def registered(**settings: Any) -> Iterator[PublishedEvfSam]:
    """A model ``small_evf`` that is on this machine."""
    entry = publish(**settings)
    MODELS.register(entry)
    try:
        yield entry
    finally:
        MODELS.unregister(entry.name)
        entry.weights.path.unlink(missing_ok=True)
        entry.tokenizer.path.unlink(missing_ok=True)
