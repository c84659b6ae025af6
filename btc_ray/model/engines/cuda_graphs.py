"""Batches under way on a GPU, each on a CUDA stream of its own: while the kernels of one run, the pixels of the other are copied.

A stream computes batches of one shape, so that its kernels are captured once as a CUDA graph and then launched as one; a batch that is
smaller is computed together with what an earlier one left in the buffers. On a CPU the same is done without streams and graph.

Sources: PyTorch's notes on CUDA semantics, "CUDA Graphs" and "Use pinned memory buffers".
"""

from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

import numpy as np
import torch
from torch import Tensor

from btc_ray.model.engines.folding import FEATURES

LARGEST = 256  # images: enough to fill a GPU; the stem's result at 224 px is 0.82 GB (256 · 64 · 112 · 112 · 4 bytes)
MOST = 2  # streams of an engine: one computes, one copies
WARM_UP = 3  # calls before a recording, as PyTorch's notes have it: cuDNN measures its kernels at the first, workspaces are made

Features = Callable[[Tensor], Tensor]  # uint8 (N, H, W) to float32 (N, width), on one device


class GraphedStreams:
    """`count` streams for up to `batch` images of `shape`; safe to call from several threads, which wait for a free stream.

    Where the GPU has no room the first stream is made for half the batch, a quarter and so on, and there are no more than fit. Raises
    RuntimeError where even one image cannot be computed.
    """

    def __init__(
        self, compute: Features, *, device: str, batch: int, shape: tuple[int, int], count: int, width: int = FEATURES
    ) -> None:
        self.shape, self._width = shape, width
        self._compute = compute  # its weights are what the graphs read
        self._free: SimpleQueue[_GraphedStream] = SimpleQueue()
        first = _largest_that_fits(compute, device, batch, shape, width)
        self._free.put(first)
        with suppress(RuntimeError):
            for _ in range(count - 1):
                self._free.put(_GraphedStream(compute, device, first.batch, shape, width))

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W) of the streams' shape, any N, to float32 (N, width)."""
        found = np.empty((len(pixels), self._width), np.float32)
        stream = self._free.get()
        try:
            for start in range(0, len(pixels), stream.batch):
                stream.compute(pixels[start : start + stream.batch], found[start : start + stream.batch])
        finally:
            self._free.put(stream)
        return found


def _largest_that_fits(compute: Features, device: str, batch: int, shape: tuple[int, int], width: int) -> "_GraphedStream":
    try:
        return _GraphedStream(compute, device, batch, shape, width)
    except RuntimeError:  # want of memory has many names: torch's own, cuDNN's that found no kernel, CUDA's for a graph
        if batch == 1:
            raise
    # Outside of `except`, whose traceback keeps the tensors of the stream that had no room.
    return _largest_that_fits(compute, device, batch // 2, shape, width)


class _GraphedStream:
    def __init__(self, compute: Features, device: str, batch: int, shape: tuple[int, int], width: int) -> None:
        on_gpu = device == "cuda"
        self.batch = batch
        # From and into pinned memory copies run beside kernels.
        self._pixels = torch.zeros(batch, *shape, dtype=torch.uint8, pin_memory=on_gpu)
        self._found = torch.zeros(batch, width, pin_memory=on_gpu)
        # What a graph reads and writes has to stay where it is.
        self._grey = torch.zeros(batch, *shape, dtype=torch.uint8, device=device)
        self._features = torch.zeros(batch, width, device=device)
        self._stream = torch.cuda.Stream() if on_gpu else None
        self._over = torch.cuda.Event(blocking=True) if on_gpu else None  # to wait without a core, which could decode
        self._launch = self._recorded(compute)

    def compute(self, pixels: np.ndarray, found: np.ndarray) -> None:
        """The features of up to `batch` images into `found`."""
        count = len(pixels)
        self._pixels.numpy()[:count] = pixels
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            self._grey[:count].copy_(self._pixels[:count], non_blocking=True)
            self._launch()
            self._found[:count].copy_(self._features[:count], non_blocking=True)
        if self._over is not None:
            self._over.record(self._stream)
            self._over.synchronize()
        found[:] = self._found.numpy()[:count]

    def _recorded(self, compute: Features) -> Callable[[], object]:
        def launch() -> None:
            self._features.copy_(compute(self._grey))

        with torch.inference_mode():
            if self._stream is None:
                launch()  # what has no room should say so now
                return launch
            self._stream.wait_stream(torch.cuda.current_stream())  # where weights and zeros were written
            with torch.cuda.stream(self._stream):  # around the recording as well, which does not leave its stream where it fails
                for _ in range(WARM_UP):
                    launch()
                self._stream.synchronize()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=self._stream):
                    launch()
        return graph.replay
