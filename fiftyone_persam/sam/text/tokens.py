"""Phrases as XLM-R's token ids: a sentencepiece model, and how its pieces are numbered.

XLM-R (arXiv 1911.02116) numbers tokens as fairseq does: <s> 0, <pad> 1, </s> 2, <unk> 3, then the
model's own pieces from its third on, shifted by one; a phrase is <s> pieces </s>.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import CheckpointError, PersamError

BEGIN, END, UNKNOWN = 0, 2, 3
_SHIFT = 1
MOST_TOKENS = 256
"""Of a phrase. 64 words of English are about 90; BEiT-3 was trained with texts of up to 64."""
INSTALL = "pip install 'fiftyone-persam[text]'"


class PhraseTokenizer:
    """Turns phrases into token ids. It can be pickled.

    Args:
        model: content of a sentencepiece model file.
        added: ids of words that are one token each, such as "[semantic]".

    Raises:
        PersamError: sentencepiece is not installed.
        CheckpointError: this is not such a file.
    """

    def __init__(self, model: bytes, added: Mapping[str, int] | None = None) -> None:
        self._model = model
        self._added = dict(added or {})
        self._pieces = _load(model)

    @classmethod
    def from_file(cls, path: Path, added: Mapping[str, int] | None = None) -> PhraseTokenizer:
        """See the class.

        Raises:
            PersamError: sentencepiece is not installed.
            CheckpointError: the file cannot be read, or is something else.
        """
        try:
            return cls(path.read_bytes(), added)
        except OSError as error:
            raise CheckpointError(
                f"checkpoint {path} cannot be read ({error.strerror}): get the file again"
            ) from None
        except CheckpointError as error:
            raise CheckpointError(f"checkpoint {path} {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        return {"_model": self._model, "_added": self._added}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_model"], state["_added"])  # type: ignore[misc]

    def encode(self, phrase: str) -> list[int]:
        """Token ids of a phrase, <s> and </s> included.

        Raises:
            PersamError: the phrase is empty, too long, or in a script of which no piece is known.
        """
        ids = [BEGIN]
        for part in self._split(phrase):
            if part in self._added:
                ids.append(self._added[part])
            else:
                ids += [piece + _SHIFT if piece else UNKNOWN for piece in self._pieces.encode(part)]
        ids.append(END)
        self._check(phrase, ids[1:-1])
        return ids

    def _split(self, phrase: str) -> list[str]:
        if not self._added:
            return [phrase]
        words = "|".join(re.escape(word) for word in self._added)
        return [part for part in re.split(f"({words})", phrase) if part]

    def _check(self, phrase: str, ids: list[int]) -> None:
        own = [i for i in ids if i not in self._added.values()]
        # The piece of a space alone says nothing, either.
        spoken = [
            i for i in own if i == UNKNOWN or self._pieces.id_to_piece(i - _SHIFT) != "\u2581"
        ]
        shown = phrase if len(phrase) <= 40 else f"{phrase[:37]}..."
        if not spoken:
            raise PersamError(f"the phrase {shown!r} is empty: give one such as 'the blue mug'")
        if len(ids) > MOST_TOKENS:
            raise PersamError(
                f"the phrase {shown!r} is {len(ids)} tokens long: give one of at most {MOST_TOKENS}"
            )
        if all(i == UNKNOWN for i in spoken):
            raise PersamError(
                f"the phrase {shown!r} is in a script that the model does not know: say it in "
                "English"
            )


def is_installed() -> bool:
    """Whether sentencepiece is there."""
    try:
        import sentencepiece  # noqa: F401
    except ImportError:
        return False
    return True


def check_installed() -> None:
    """Raise PersamError unless sentencepiece is there."""
    if not is_installed():
        raise PersamError(f"phrases need the package sentencepiece: {INSTALL}")


def _load(model: bytes) -> Any:
    check_installed()
    import sentencepiece

    try:
        pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    except Exception:  # the library raises RuntimeError, and other things on other versions
        pieces = None
    if pieces is None or not model:  # of nothing it makes a processor that knows nothing
        raise CheckpointError("is not a sentencepiece model: get the published file again")
    return pieces
