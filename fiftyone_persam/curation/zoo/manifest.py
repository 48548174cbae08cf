"""The manifest of the model source, made from the registries: ``python -m`` this module writes it.

FiftyOne reads the manifest before it imports anything of a source, so it has to be a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...personalize import list_methods
from ...sam import list_models

PATH = Path(__file__).with_name("model") / "manifest.json"
PREFIX = "fiftyone-persam/"
_PAPER = "https://arxiv.org/abs/2305.03048"
_PACKAGES = ["torch", "torchvision", "segment-anything", "safetensors", "timm"]
_DATE = "2026-11-21 00:00:00"


def build_manifest() -> dict[str, Any]:
    """What FiftyOne's zoo has to know of every model."""
    titles = sorted(info.title for info in list_methods() if not info.needs_text)
    models = []
    for info in list_models():
        bundled = info.source == "bundled"
        size = {} if bundled else {"size_bytes": info.bytes}
        models.append(
            {
                "base_name": f"{PREFIX}{info.name}",
                "base_filename": info.path.name,
                "author": info.author,
                "license": info.license,
                "source": _PAPER,
                "description": f"{_joined(titles)}: one labelled photo of your object in, its mask "
                f"in every photo out. Model: {info.description}",
                "tags": ["segmentation", "one-shot", "torch", "personalization"],
                **size,
                "date_added": _DATE,
                "requirements": {
                    "packages": [*_PACKAGES, *(["sentencepiece"] if info.text else [])],
                    "cpu": {"support": True},
                    "gpu": {"support": True},
                },
            }
        )
    return {"name": PREFIX.rstrip("/"), "models": models}


def manifest_text() -> str:
    """The file's content."""
    return json.dumps(build_manifest(), indent=4) + "\n"


def _joined(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


if __name__ == "__main__":
    PATH.write_text(manifest_text(), encoding="utf-8")
