"""CUDA graphs: a chain of many short kernels recorded once, and played back in one launch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Tensors: TypeAlias = "tuple[Tensor, ...]"
_RECORDING = threading.Lock()


class Graphs:
    """Functions of tensors, recorded as a CUDA graph for each shape of what they are given.

    The first call with new shapes runs the function as it is, the second one records it, and all
    others play the record. A function that cannot be recorded is called as it is every time. On
    other devices than CUDA nothing is recorded.

    Args:
        most: graphs kept; a call with yet other shapes runs the function as it is.
    """

    def __init__(self, most: int = 6) -> None:
        self._most = most
        self._graphs: dict[Any, _Graph | None] = {}
        self._lock = threading.RLock()

    def __call__(
        self,
        name: Any,
        function: Callable[..., Tensors],
        given: Sequence[Tensor | None],
    ) -> Tensors:
        """What ``function(*given)`` returns.

        Args:
            name: of the function and of all it uses besides ``given``, which must not change.
            function: waits for nothing on the device, and keeps nothing.
            given: its arguments.

        Returns:
            Tensors that nobody else has.
        """
        first = next(tensor for tensor in given if tensor is not None)
        if first.device.type != "cuda" or torch.is_grad_enabled():
            return function(*given)
        with torch.cuda.device(first.device):
            return self._on_cuda(name, function, given)

    def _on_cuda(
        self, name: Any, function: Callable[..., Tensors], given: Sequence[Tensor | None]
    ) -> Tensors:
        key = (name, *(None if t is None else (t.shape, t.dtype, t.device) for t in given))
        with self._lock:
            if key not in self._graphs:
                self._graphs[key] = None
                return function(*given)
            graph = self._graphs[key]
            if graph is None:
                if sum(one is not None for one in self._graphs.values()) >= self._most:
                    return function(*given)
                graph = self._graphs[key] = _Graph(function, given)
            return graph(function, given)

    def clear(self) -> None:
        """Forget all graphs and free their memory."""
        with self._lock:
            self._graphs.clear()

    def __deepcopy__(self, memo: Any) -> Graphs:
        return Graphs(self._most)

    def __reduce__(self) -> Any:
        return Graphs, (self._most,)


class _Graph:
    def __init__(self, function: Callable[..., Tensors], given: Sequence[Tensor | None]) -> None:
        self._given = [None if one is None else one.clone() for one in given]
        self._graph: torch.cuda.CUDAGraph | None = torch.cuda.CUDAGraph()
        self._results: Tensors = ()
        with _RECORDING:
            try:
                # Other threads go on pinning memory meanwhile, which "global" would forbid.
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    function(*self._given)  # libraries set themselves up for this stream
                torch.cuda.current_stream().wait_stream(stream)
                with torch.cuda.graph(
                    self._graph, stream=stream, capture_error_mode="thread_local"
                ):
                    self._results = function(*self._given)
            except RuntimeError as error:  # too little memory for one, for example
                logger.warning("CUDA graphs are not used: %s", " ".join(str(error).split())[:200])
                self._graph, self._given, self._results = None, [], ()

    def __call__(self, function: Callable[..., Tensors], given: Sequence[Tensor | None]) -> Tensors:
        if self._graph is None:
            return function(*given)
        # Whether the record was made in inference mode or not, it can be played in both.
        with torch.inference_mode():
            for kept, new in zip(self._given, given, strict=True):
                if kept is not None and new is not None:
                    kept.copy_(new)
            self._graph.replay()
        return tuple(result.clone() for result in self._results)
