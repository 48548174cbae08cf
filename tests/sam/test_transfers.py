"""What is packed, joined and sent comes out as it went in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fiftyone_persam.sam.transfers import Download, pack_bits, send, unpack_bits


@pytest.mark.parametrize("width", [1, 7, 8, 9, 64, 65])
def test_bits_are_packed_as_numpy_packs_them(width: int) -> None:
    masks = np.random.default_rng(width).random((3, 5, width)) < 0.5
    packed = pack_bits(torch.from_numpy(masks)).numpy()
    np.testing.assert_array_equal(packed, np.packbits(masks, axis=-1))
    found = unpack_bits(packed, width)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, masks)


def test_tensors_of_all_kinds_travel_as_one() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "flags": torch.tensor([True, False, True]),
        "half": torch.rand(3, 5, generator=generator).half(),
        "bytes": torch.arange(7, dtype=torch.uint8),
        "turned": torch.rand(4, 6, generator=generator).T,
        "numbers": torch.arange(3),
        "none": torch.zeros(0, 4),
        "strided": torch.rand(1, 4, generator=generator)[:, 1:2].T,
        "double": torch.rand(2, generator=generator).double(),
    }
    found = Download(tensors).wait()
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(found[name], tensor.numpy())


def test_sending_to_the_same_device_changes_nothing() -> None:
    tensor = torch.arange(4)
    assert send(tensor, torch.device("cpu")) is tensor
