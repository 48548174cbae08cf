"""Phrases as XLM-R's ids."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import sentencepiece

from fiftyone_persam.errors import CheckpointError, PersamError
from fiftyone_persam.sam.text.tokens import BEGIN, END, UNKNOWN, PhraseTokenizer
from tests.small_evf import ADDED, tokenizer, tokenizer_model


@pytest.fixture(scope="module")
def pieces() -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model())


def test_a_phrase_begins_and_ends_as_in_fairseq(
    pieces: sentencepiece.SentencePieceProcessor,
) -> None:
    ids = tokenizer().encode("the blue mug")
    assert (ids[0], ids[-1]) == (BEGIN, END) == (0, 2)
    assert ids[1:-1] == [piece + 1 for piece in pieces.encode("the blue mug")]
    assert min(ids[1:-1]) > UNKNOWN  # 0 to 3 are <s>, <pad>, </s> and <unk>


def test_it_equals_the_tokenizer_of_transformers(tmp_path: Path) -> None:
    """The published checkpoints name XLMRobertaTokenizer as theirs."""
    transformers = pytest.importorskip("transformers")
    (tmp_path / "sentencepiece.bpe.model").write_bytes(tokenizer_model())
    theirs = transformers.XLMRobertaTokenizer.from_pretrained(tmp_path)
    for phrase in ("the blue mug", "a  dog on the   left", "mug ☂ cup", "green"):
        assert tokenizer().encode(phrase) == theirs(phrase)["input_ids"], phrase
    theirs.add_tokens(["[semantic]"])
    added = theirs.convert_tokens_to_ids("[semantic]")
    known = PhraseTokenizer(tokenizer_model(), {"[semantic]": added})
    for phrase in ("[semantic] the mug", "the [semantic] mug", "[semantic]mug"):
        assert known.encode(phrase) == theirs(phrase)["input_ids"], phrase


def test_semantic_is_one_token_where_the_checkpoint_knows_it() -> None:
    plain, known = PhraseTokenizer(tokenizer_model()), tokenizer()
    ids = known.encode("[semantic] the mug")
    assert ids == [BEGIN, ADDED["[semantic]"], *known.encode("the mug")[1:]]
    assert ADDED["[semantic]"] not in plain.encode("[semantic] the mug")
    assert len(plain.encode("[semantic] the mug")) > len(ids)


def test_it_can_be_sent_to_another_process() -> None:
    known = tokenizer()
    again = pickle.loads(pickle.dumps(known))
    assert again.encode("[semantic] blue cat") == known.encode("[semantic] blue cat")


@pytest.mark.parametrize(
    ("phrase", "says"),
    [
        ("", "is empty: give one such as 'the blue mug'"),
        ("  ", "is empty: "),
        ("[semantic] ", "is empty: "),
        ("青いマグカップ", "is in a script that the model does not know: say it in English"),
        ("[semantic] 杯子", "is in a script that the model does not know"),
        ("mug " * 500, "tokens long: give one of at most 256"),
        ("m" * 5000, "tokens long: "),
    ],
)
def test_phrases_that_say_nothing(phrase: str, says: str) -> None:
    with pytest.raises(PersamError, match=says) as caught:
        tokenizer().encode(phrase)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_a_word_of_another_script_among_others_is_unknown() -> None:
    ids = tokenizer().encode("the mug 杯")
    assert UNKNOWN in ids and tokenizer().encode("the mug")[:-1] == ids[: ids.index(UNKNOWN) - 1]


@pytest.mark.parametrize("content", [b"", b"not a model", tokenizer_model()[:200]])
def test_a_file_that_is_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokens.model"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a sentencepiece model: get the published"):
        PhraseTokenizer.from_file(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        PhraseTokenizer.from_file(tmp_path / "nowhere.model")


def test_without_sentencepiece(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tokenizer_model()
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(PersamError, match=r"sentencepiece: pip install 'fiftyone-persam\[text\]'"):
        PhraseTokenizer(model)
