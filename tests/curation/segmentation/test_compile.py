"""Whether the encoder is compiled: who decides, and where it is written down."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fiftyone_persam as fp
from fiftyone_persam.curation.forms.runs import estimate
from fiftyone_persam.errors import PersamError
from fiftyone_persam.sam import execution
from fiftyone_persam.sam.execution import earns_compiling, for_job

from ..discs import Make, make_photos, tiny_sam


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled without the C++ compiler, which takes long."""

    def compiled(encoder: Any) -> Any:
        return torch.compile(encoder, backend="eager", dynamic=False)

    monkeypatch.setattr(execution, "compiled", compiled)
    monkeypatch.setattr(execution, "can_compile", lambda device: True)


def test_the_record_and_the_estimate_say_so(dataset: Make, tmp_path: Any, quick: None) -> None:
    photos = dataset(make_photos(tmp_path, 3))
    model = tiny_sam()
    run = fp.segment(photos, photos.first(), method="persam", model=model, compile=True)
    plain = fp.segment(
        photos, photos.first(), method="persam", model=model, out_field="plain", compile=False
    )
    assert run.config.compiled is True and plain.config.compiled is False
    assert 0 < run.timings["compiling"] <= run.timings["encoding"]
    assert plain.timings["compiling"] == 0
    for one, other in zip(photos.values("persam_score"), photos.values("plain_score"), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert estimate(photos, run.config.model, "persam", 10).compiling == 0  # the newer run's
    photos.delete_run("plain")
    found = estimate(photos, run.config.model, "persam", 1000)
    assert found.compiling == run.timings["compiling"]
    alone = run.timings["seconds"] - found.compiling
    assert found.seconds == pytest.approx(1000 * alone / 3 + found.compiling)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_other_values_are_refused_before_anything_is_written(
    value: Any, dataset: Make, tmp_path: Any
) -> None:
    photos = dataset(make_photos(tmp_path, 2))
    with pytest.raises(PersamError, match=r"compile .* is not known: give 'auto', True or False"):
        fp.segment(photos, photos.first(), model=tiny_sam(), compile=value)
    assert photos.list_runs() == []


def test_without_a_compiler_nothing_begins(
    dataset: Make, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "can_compile", lambda device: False)
    photos = dataset(make_photos(tmp_path, 2))
    with pytest.raises(PersamError, match="compile=True needs a compiler for cpu"):
        fp.segment(photos, photos.first(), method="persam", model=tiny_sam(), compile=True)
    assert photos.list_runs() == []


def test_auto_compiles_for_long_jobs_alone(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sam = tiny_sam()
    model = fp.load_sam(sam)
    assert not earns_compiling(model, 10**9)  # a CPU is never kept waiting
    monkeypatch.setattr(model, "device", torch.device("cuda"))
    few, many = execution.PHOTOS_WORTH_COMPILING - 1, execution.PHOTOS_WORTH_COMPILING
    assert for_job(model, "auto", few).execution.speed.compile is False
    assert for_job(model, "auto", many).execution.speed.compile is True
    assert for_job(model, False, many).execution.speed.compile is False
    assert for_job(model, True, 1).execution.speed.compile is True
    # A model's own switch is not overruled, and the kernels need no compiling.
    assert for_job(model.with_speed(compile=True), "auto", 1).execution.speed.compile is True
    monkeypatch.setattr(execution.Execution, "uses_kernels", lambda *_: True)
    assert for_job(model, "auto", many).execution.speed.compile is False


def test_a_last_batch_is_not_compiled_for(quick: None) -> None:
    run = execution.Execution(execution.Speed(compile=True))
    layer = torch.nn.Conv2d(3, 2, 3)
    x = torch.randn(4, 3, 8, 8)
    with torch.inference_mode():
        whole = run.encode(layer, x)
        spent = run.compiling
        torch.testing.assert_close(run.encode(layer, x[:3]), whole[:3])
        assert run.compiling == spent > 0
