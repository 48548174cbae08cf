"""Every switch of speed: what it changes, and that it changes no result."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.seeded import small_sam
from fiftyone_persam.errors import PersamError
from fiftyone_persam.sam import PromptableSam, execution
from fiftyone_persam.sam.decoding import embed_without_waiting
from fiftyone_persam.sam.execution import Execution, Speed, can_compile
from fiftyone_persam.sam.graphs import Graphs

from .test_fast_vit import encoder

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SWITCHES = ("compile", "kernels", "graphs", "passes", "resize")


@pytest.mark.parametrize("name", SWITCHES)
def test_auto_is_for_cuda_alone(name: str) -> None:
    speed = Speed()
    assert not speed.on(name, CPU) and speed.on(name, CUDA)
    on, off = Speed(**{name: True}), Speed(**{name: False})
    assert on.on(name, CPU) and not off.on(name, CUDA)


@pytest.mark.parametrize("value", ["yes", 1, None, "True"])
@pytest.mark.parametrize("name", SWITCHES)
def test_other_values_are_refused(name: str, value: Any) -> None:
    with pytest.raises(PersamError, match=rf"{name} .* is not known: give 'auto', True or False"):
        Speed(**{name: value})


def test_a_model_with_other_switches_is_another(seeded: PromptableSam) -> None:
    changed = seeded.with_speed(passes=True)
    assert changed.execution.speed.passes is True and seeded.execution.speed.passes == "auto"
    assert changed.sam is seeded.sam
    assert pickle.loads(pickle.dumps(changed.execution)).speed == changed.execution.speed
    assert changed.on("cpu") is changed


@pytest.mark.skipif(not can_compile(CPU), reason="has no C++ compiler")
@torch.inference_mode()
def test_compiled_equals_not_compiled() -> None:
    own = encoder()
    x = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    states = list(own.state_dict())
    compiled = Execution(Speed(compile=True))
    torch.testing.assert_close(compiled.encode(own, x), own(x), rtol=1e-4, atol=1e-5)
    assert list(own.state_dict()) == states and type(own.blocks[0]).__name__ == "Block"


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "can_compile", lambda device: False)
    one = Execution(Speed(compile=True))
    with torch.inference_mode(), pytest.raises(PersamError, match="compile=True needs a compiler"):
        one.encode(nn.Identity(), torch.zeros(1))


def test_gradients_flow_whatever_the_switches() -> None:
    own = encoder()
    x = torch.randn(1, 3, 40, 40, requires_grad=True)
    Execution(Speed(kernels=True, graphs=True)).encode(own, x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


@pytest.mark.parametrize("with_masks", [False, True])
@pytest.mark.parametrize("with_boxes", [False, True])
@pytest.mark.parametrize("with_points", [False, True])
@torch.no_grad()
def test_prompts_without_waiting_are_the_released_ones_to_the_last_bit(
    with_points: bool, with_boxes: bool, with_masks: bool
) -> None:
    module = small_sam(192).prompt_encoder
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(3, 4, 2, generator=generator) * 192 if with_points else None
    labels = torch.tensor([[1.0, 0, -1, 1], [0, 0, 1, 1], [1, 1, 1, -1]]) if with_points else None
    boxes = torch.rand(3, 4, generator=generator) * 192 if with_boxes else None
    masks = torch.randn(3, 1, 48, 48, generator=generator) if with_masks else None
    wanted = module(None if points is None else (points, labels), boxes, masks)
    found = embed_without_waiting(module, points, labels, boxes, masks)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape and torch.equal(one, other)


def test_nothing_is_recorded_on_a_cpu() -> None:
    calls: list[int] = []

    def double(x: Tensor) -> tuple[Tensor]:
        calls.append(len(x))
        return (2 * x,)

    graphs = Graphs()
    for count in (2, 3, 2):
        x = torch.ones(count)
        assert torch.equal(graphs("double", double, [x])[0], 2 * x)
    assert calls == [2, 3, 2]
    assert isinstance(copy.deepcopy(graphs), Graphs) and pickle.loads(pickle.dumps(graphs))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.inference_mode()
def test_a_record_plays_what_the_function_computes() -> None:
    def both(x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        return x @ x.T, x.sum(0) if y is None else x + y

    graphs = Graphs()
    for turn in range(4):
        for count in (3, 5):
            x = torch.randn(count, 4, device="cuda")
            for y in (None, torch.randn(count, 4, device="cuda")):
                found = [one.clone() for one in graphs("both", both, [x, y])]
                for one, other in zip(found, both(x, y), strict=True):
                    torch.testing.assert_close(one, other, msg=f"turn {turn}")
    assert sum(one is not None for one in graphs._graphs.values()) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.inference_mode()
def test_what_cannot_be_recorded_is_called() -> None:
    graphs = Graphs()
    x = torch.arange(5, device="cuda")
    for _ in range(4):
        (found,) = graphs("nonzero", lambda t: (t[t > 2] + int(t.max()),), [x])
        assert found.tolist() == [7, 8]
