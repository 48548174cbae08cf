"""Triton kernels for the attention of SAM's image encoders: relative positions added inside.

Queries, keys and values are read where the qkv product left them, (B, H, W, 3, heads, d), and what
is attended is written where the projection reads it, (B, H, W, heads, d). Windows are addressed,
not copied, and nothing is computed for their padding: a padded token's key and value are the qkv
layer's bias, since what is padded is zero, and its query is nobody's.

A head need not be as long as a power of two: one of 80 is computed as 64 and 16.

Import this module only where Triton is. Triton's interpreter (TRITON_INTERPRET=1 before the first
import of Triton) runs it on a CPU.
"""

# The compiler of Triton, not Python, gives the kernels' arguments their types.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LEAST = 16
"""The shortest side of a block that a matrix product takes."""
LOG2E = tl.constexpr(1.4426950408889634)
"""Kernels compute powers of two; position terms are kept as their exponents."""


@triton.jit
def _position_terms(
    qkv, table, out, heads, H, W, stride_token, stride_head, stride_t, stride_k,
    D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr, TWO: tl.constexpr,
    SIDE: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK: tl.constexpr,
    BY_ROW: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Products of the queries of one row (or column) of the grid with that row's table."""
    line, at, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    batch, head = at // heads, at % heads
    steps = part * BLOCK + tl.arange(0, BLOCK)
    # What is outside reads what is inside: no address that a mask has to keep from being read.
    if BY_ROW:
        tokens, inside = line * W + tl.minimum(steps, W - 1), steps < W
    else:
        tokens, inside = tl.minimum(steps, H - 1) * W + line, steps < H
    d0, k = tl.arange(0, D0), tl.arange(0, BLOCK_K)
    queries = qkv + (batch.to(tl.int64) * H * W + tokens[:, None]) * stride_token + head * D
    rows = table + ((line % SIDE) * SIDE + k[None, :]) * D
    q = tl.load(queries + d0[None, :], mask=inside[:, None], other=0.0)
    r = tl.load(rows + d0[:, None], mask=(k < SIDE)[None, :], other=0.0)
    found = tl.dot(q, r, input_precision=PRECISION)
    if TWO:
        d1 = D0 + tl.arange(0, D1)
        q = tl.load(queries + d1[None, :], mask=inside[:, None] & (d1 < D)[None, :], other=0.0)
        r = tl.load(rows + d1[:, None], mask=(k < SIDE)[None, :] & (d1 < D)[:, None], other=0.0)
        found += tl.dot(q, r, input_precision=PRECISION)
    place = out + at.to(tl.int64) * stride_head + tokens[:, None].to(tl.int64) * stride_t
    found = (found * LOG2E).to(out.dtype.element_ty)
    tl.store(place + k[None, :] * stride_k, found, mask=inside[:, None])


@triton.jit
def _part(pointer, n, d, W, D: tl.constexpr, WHOLE: tl.constexpr):
    """A block of keys or values; unmasked where no row or head is cut."""
    if WHOLE:
        return tl.load(pointer)
    return tl.load(pointer, mask=(n < W) & (d < D), other=0.0)


@triton.jit
def _global_attention(
    qkv, by_row, by_column, out, heads, H, W, stride_token, scale,
    D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr, TWO: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, WHOLE: tl.constexpr, ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """A block of queries over all keys, one row of the grid, or two, at a time.

    So a row's term is one number for each query, and the columns' terms are the same every time.
    """
    at = tl.program_id(1)
    batch, head = at // heads, at % heads
    count = H * W
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = m < count
    m = tl.minimum(m, count - 1)
    n = tl.arange(0, BLOCK_N)
    d0 = tl.arange(0, D0)
    d1 = D0 + tl.arange(0, D1)
    base = qkv + batch.to(tl.int64) * count * stride_token + head * D
    queries = base + m[:, None] * stride_token
    q0 = tl.load(queries + d0[None, :], mask=inside[:, None], other=0.0)
    q1 = tl.zeros([BLOCK_M, D1], q0.dtype)
    if TWO:
        q1 = tl.load(queries + d1[None, :], mask=inside[:, None] & (d1 < D)[None, :], other=0.0)
    place = by_column + (at.to(tl.int64) * count + m[:, None]) * BLOCK_N + n[None, :]
    columns = tl.load(place, mask=inside[:, None], other=0.0).to(tl.float32)
    if W != BLOCK_N:
        columns = tl.where((n < W)[None, :], columns, -float("inf"))
    top = tl.full([BLOCK_M], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    sum0 = tl.zeros([BLOCK_M, D0], tl.float32)
    sum1 = tl.zeros([BLOCK_M, D1], tl.float32)
    rows = by_row + at.to(tl.int64) * PADDED * count + m
    keys = base + heads * D + n[None, :] * stride_token
    values = base + 2 * heads * D + n[:, None] * stride_token
    step = W * stride_token
    kd0, kd1, kn = d0[:, None], d1[:, None], n[None, :]
    vd0, vd1, vn = d0[None, :], d1[None, :], n[:, None]
    factor = tl.cast(scale, tl.float32) * LOG2E
    for _ in range(0, H, ROWS):
        k = _part(keys + kd0, kn, kd0, W, D, WHOLE)
        score = tl.dot(q0, k, input_precision=PRECISION)
        if TWO:
            k = _part(keys + kd1, kn, kd1, W, D, WHOLE)
            score = tl.dot(q1, k, score, input_precision=PRECISION)
        score = score * factor + columns
        term = tl.load(rows, mask=inside, other=0.0).to(tl.float32)
        new = tl.maximum(top, tl.max(score, 1) + term)
        if ROWS == 2:
            k = _part(keys + step + kd0, kn, kd0, W, D, WHOLE)
            other = tl.dot(q0, k, input_precision=PRECISION)
            if TWO:
                k = _part(keys + step + kd1, kn, kd1, W, D, WHOLE)
                other = tl.dot(q1, k, other, input_precision=PRECISION)
            other = other * factor + columns
            more = tl.load(rows + count, mask=inside, other=0.0).to(tl.float32)
            new = tl.maximum(new, tl.max(other, 1) + more)
        p = tl.exp2(score + (term - new)[:, None])
        shrink = tl.exp2(top - new)
        total = total * shrink + tl.sum(p, 1)
        top = new
        p = p.to(q0.dtype)
        v = _part(values + vd0, vn, vd0, W, D, WHOLE)
        sum0 = tl.dot(p, v, sum0 * shrink[:, None], input_precision=PRECISION)
        if TWO:
            v = _part(values + vd1, vn, vd1, W, D, WHOLE)
            sum1 = tl.dot(p, v, sum1 * shrink[:, None], input_precision=PRECISION)
        if ROWS == 2:
            p = tl.exp2(other + (more - new)[:, None])
            total += tl.sum(p, 1)
            p = p.to(q0.dtype)
            v = _part(values + step + vd0, vn, vd0, W, D, WHOLE)
            sum0 = tl.dot(p, v, sum0, input_precision=PRECISION)
            if TWO:
                v = _part(values + step + vd1, vn, vd1, W, D, WHOLE)
                sum1 = tl.dot(p, v, sum1, input_precision=PRECISION)
        keys += ROWS * step
        values += ROWS * step
        rows += ROWS * count
    target = out + (batch.to(tl.int64) * count + m[:, None]) * (heads * D) + head * D
    sum0 = sum0 / total[:, None]
    tl.store(target + d0[None, :], sum0.to(out.dtype.element_ty), mask=inside[:, None])
    if TWO:
        sum1 = sum1 / total[:, None]
        both = inside[:, None] & (d1 < D)[None, :]
        tl.store(target + d1[None, :], sum1.to(out.dtype.element_ty), mask=both)


@triton.jit
def _window_attention(
    qkv, padded, terms, out, heads, H, W, across, stride_token, scale,
    D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr, TWO: tl.constexpr, SIDE: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, WHOLE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """A block of one window's queries over that window's keys, padded ones included."""
    window, at = tl.program_id(1), tl.program_id(2)
    batch, head = at // heads, at % heads
    top_row, left = (window // across) * SIDE, (window % across) * SIDE
    wide = tl.minimum(W - left, SIDE)
    count = tl.minimum(H - top_row, SIDE) * wide  # of the window's tokens in the photo's grid
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    if tl.program_id(0) * BLOCK_M >= count:
        return
    inside = m < count
    m = tl.minimum(m, count - 1)
    tokens = (top_row + m // wide) * W + left + m % wide
    d0 = tl.arange(0, D0)
    d1 = D0 + tl.arange(0, D1)
    rest = d1 < D
    first = batch.to(tl.int64) * H * W
    base = qkv + first * stride_token + head * D
    queries = base + tokens[:, None] * stride_token
    q0 = tl.load(queries + d0[None, :], mask=inside[:, None], other=0.0)
    q1 = tl.zeros([BLOCK_M, D1], q0.dtype)
    if TWO:
        q1 = tl.load(queries + d1[None, :], mask=inside[:, None] & rest[None, :], other=0.0)
    # A query's terms by row, then those by column; a key takes one of either.
    both = tl.arange(0, 2 * BLOCK_K)
    place = (at.to(tl.int64) * H * W + tokens[:, None]) * (2 * BLOCK_K)
    term = tl.load(terms + place + both[None, :], mask=inside[:, None], other=0.0)
    top = tl.full([BLOCK_M], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    sum0 = tl.zeros([BLOCK_M, D0], tl.float32)
    sum1 = tl.zeros([BLOCK_M, D1], tl.float32)
    factor = tl.cast(scale, tl.float32) * LOG2E
    kd0, kd1, vd0, vd1 = d0[:, None], d1[:, None], d0[None, :], d1[None, :]
    for start in range(0, SIDE * SIDE, BLOCK_N):
        there = start + tl.arange(0, BLOCK_N) < SIDE * SIDE
        n = tl.minimum(start + tl.arange(0, BLOCK_N), SIDE * SIDE - 1)
        row, column = n // SIDE, n % SIDE
        photo = (top_row + row < H) & (left + column < W)
        token = (top_row + row) * W + left + column
        key = tl.where(photo, base + token * stride_token, padded + head * D) + heads * D
        k = _part(key[None, :] + kd0, kd0, kd0, D, D, WHOLE)
        score = tl.dot(q0, k, input_precision=PRECISION)
        if TWO:
            k = _part(key[None, :] + kd1, kd1, kd1, D, D, WHOLE)
            score = tl.dot(q1, k, score, input_precision=PRECISION)
        takes = (both[:, None] == row[None, :]) | (both[:, None] - BLOCK_K == column[None, :])
        bias = tl.dot(term, takes.to(term.dtype), input_precision=PRECISION)
        score = tl.where(there[None, :], score * factor + bias, -float("inf"))
        new = tl.maximum(top, tl.max(score, 1))
        p = tl.exp2(score - new[:, None])
        shrink = tl.exp2(top - new)
        total = total * shrink + tl.sum(p, 1)
        top = new
        p = p.to(q0.dtype)
        value = key + heads * D
        v = _part(value[:, None] + vd0, vd0, vd0, D, D, WHOLE)
        sum0 = tl.dot(p, v, sum0 * shrink[:, None], input_precision=PRECISION)
        if TWO:
            v = _part(value[:, None] + vd1, vd1, vd1, D, D, WHOLE)
            sum1 = tl.dot(p, v, sum1 * shrink[:, None], input_precision=PRECISION)
    target = out + (first + tokens[:, None]) * (heads * D) + head * D
    sum0 = sum0 / total[:, None]
    tl.store(target + d0[None, :], sum0.to(out.dtype.element_ty), mask=inside[:, None])
    if TWO:
        sum1 = sum1 / total[:, None]
        shown = inside[:, None] & rest[None, :]
        tl.store(target + d1[None, :], sum1.to(out.dtype.element_ty), mask=shown)


@triton.jit
def _add_norm(
    stream, branch, weight, bias, summed, normed, C, epsilon,
    ADD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One token: the stream plus a branch, and the sum's layer norm."""
    token = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK)
    inside = c < C
    x = tl.load(stream + token * C + c, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        more = tl.load(branch + token * C + c, mask=inside, other=0.0).to(tl.float32)
        if branch.dtype.element_ty == tl.float16:  # what overflowed is as large as can be
            more = tl.minimum(tl.maximum(more, -65504.0), 65504.0)
        x += more
        tl.store(summed + token * C + c, x.to(summed.dtype.element_ty), mask=inside)
    mean = tl.sum(x, 0) / C
    apart = tl.where(inside, x - mean, 0.0)
    variance = tl.sum(apart * apart, 0) / C
    scaled = apart * tl.rsqrt(variance + epsilon)
    w = tl.load(weight + c, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(bias + c, mask=inside, other=0.0).to(tl.float32)
    found = (scaled * w + b).to(normed.dtype.element_ty)
    tl.store(normed + token * C + c, found, mask=inside)


@dataclass(frozen=True)
class Blocks:
    """How a kernel is cut up.

    Attributes:
        m: queries of a block.
        n: keys of a block, in windows.
        warps: of a block.
        stages: loads under way.
        rows: rows of the grid taken at a time, 1 or 2, without windows.
    """

    m: int
    n: int = 64
    warps: int = 4
    stages: int = 3
    rows: int = 1


GLOBAL = Blocks(64, 64, 4, 3)
WINDOW = Blocks(128, 64, 4, 2)


def attend(
    qkv: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    columns: Tensor,
    heads: int,
    window: int = 0,
    blocks: Blocks | None = None,
) -> Tensor:
    """Attention with decomposed relative positions, as ``image_encoder.Attention`` has it.

    Args:
        qkv: (B, H, W, 3 * heads * d), contiguous.
        bias: (3 * heads * d,) of the qkv layer: what a padded token is; None for 0.
        rows: (side, side, d) positions of rows: query, key. The side is the window's; without
            windows H.
        columns: the same of columns; without windows (W, W, d).
        heads: number of heads.
        window: side of the windows; 0 for attention over the whole grid.
        blocks: how the work is cut up.

    Returns:
        (B, H, W, heads * d).
    """
    batch, height, width, channels = qkv.shape
    count, length = height * width, channels // 3 // heads
    d0, d1, two = _split(length)
    precision = "ieee" if qkv.dtype == torch.float32 else "tf32"
    out = qkv.new_empty(batch, height, width, channels // 3)
    sizes: dict[str, Any] = {"D": length, "D0": d0, "D1": d1, "TWO": two, "PRECISION": precision}
    block_k = max(LEAST, triton.next_power_of_2(window or width))
    pairs = batch * heads
    fits = length == d0 + d1 * two

    def terms(table: Tensor, out: Tensor, by_row: bool, strides: tuple[int, int, int]) -> None:
        side = len(table)
        line, steps = (height, width) if by_row else (width, height)
        block = min(64, max(LEAST, triton.next_power_of_2(steps)))
        grid = (line, pairs, triton.cdiv(steps, block))
        block_keys = max(LEAST, triton.next_power_of_2(side))
        _position_terms[grid](
            qkv, table, out, heads, height, width, channels, *strides,
            SIDE=side, BLOCK_K=block_keys, BLOCK=block, BY_ROW=by_row, num_warps=4, **sizes,
        )  # fmt: skip

    if window:
        cut = blocks or WINDOW
        padded = qkv.new_zeros(channels) if bias is None else bias
        both = qkv.new_empty(pairs, count, 2 * block_k)
        strides = (count * 2 * block_k, 2 * block_k, 1)
        terms(rows, both, True, strides)
        terms(columns, both[:, :, block_k:], False, strides)
        down, across = -(-height // window), -(-width // window)
        grid = (triton.cdiv(window * window, cut.m), down * across, pairs)
        _window_attention[grid](
            qkv, padded, both, out, heads, height, width, across, channels, length**-0.5,
            SIDE=window, BLOCK_K=block_k, BLOCK_M=cut.m, BLOCK_N=cut.n, WHOLE=fits,
            num_warps=cut.warps, num_stages=cut.stages, **sizes,
        )  # fmt: skip
        return out
    cut = blocks or GLOBAL
    padded_rows = max(LEAST, triton.next_power_of_2(height))
    by_row = qkv.new_empty(pairs, padded_rows, count)
    by_column = qkv.new_empty(pairs, count, block_k)
    terms(rows, by_row, True, (padded_rows * count, 1, count))
    terms(columns, by_column, False, (count * block_k, block_k, 1))
    blocks_down = triton.cdiv(count, cut.m)
    whole = width == block_k and fits
    _global_attention[(blocks_down, pairs)](
        qkv, by_row, by_column, out, heads, height, width, channels, length**-0.5,
        PADDED=padded_rows, BLOCK_M=cut.m, BLOCK_N=block_k, WHOLE=whole,
        ROWS=cut.rows if height % cut.rows == 0 else 1,
        num_warps=cut.warps, num_stages=cut.stages, **sizes,
    )  # fmt: skip
    return out


def add_norm(
    stream: Tensor, branch: Tensor | None, weight: Tensor, bias: Tensor, epsilon: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The stream plus a branch, and the layer norm of the sum, in one pass over them.

    Args:
        stream: (n, C) contiguous; added to in place.
        branch: (n, C) contiguous, or None to add nothing.
        weight: (C,) of the norm.
        bias: (C,) of the norm.
        epsilon: of the norm.
        dtype: of what is returned normed.

    Returns:
        (n, C) the sum and (n, C) its norm.
    """
    count, channels = stream.shape
    normed = torch.empty(count, channels, dtype=dtype, device=stream.device)
    _add_norm[(count,)](
        stream, stream if branch is None else branch, weight, bias, stream, normed,
        channels, epsilon, ADD=branch is not None, BLOCK=triton.next_power_of_2(channels),
        num_warps=4 if channels <= 1024 else 8,
    )  # fmt: skip
    return stream, normed


def _split(length: int) -> tuple[int, int, bool]:
    """A head's length as one power of two, or as two of them."""
    if length <= LEAST:
        return LEAST, LEAST, False
    whole = triton.next_power_of_2(length)
    if whole == length:
        return length, LEAST, False
    first = whole // 2
    return first, max(LEAST, triton.next_power_of_2(length - first)), True
