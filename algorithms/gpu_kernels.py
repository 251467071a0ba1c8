"""What a module stack does between its matrix products, and its routes, as Triton kernels.

For a GPU what stack.c and routes.c are for a CPU, and with the same meaning: see there, and
module_stack.py and routing.py. A program takes a few rows whole, so rows need not wait for each
other: slots and outputs are told apart by launches. Indices are 64 bits wide.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _mean_of(total, x, weight):
    # A source of weight 0 counts nothing, not even where it is not a number.
    return total + tl.where((weight != 0)[:, None], weight[:, None] * x, 0.0)


@triton.jit(do_not_specialize=["slot"])
def forward_slot(
    outputs,  # [n, N, H]
    inputs,  # [n - 1, N, H]
    products,  # [n - 1, N, H]: without the bias
    bias,  # [M, >= n - 1, H]
    mixing,  # [n, n, M·T], or [N, n, K]
    sources,  # [N, n, K]
    to,  # [N, H]: the input of the slot
    slot,
    n,
    rows,  # N
    units,  # H
    samples,  # rows of each task
    member_rows,  # rows of each member
    bias_stride,
    K: tl.constexpr,  # sources of a slot, or 0: a table
    MODULE: tl.constexpr,  # whether the slot's output is a residual module's
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
):
    """Output `slot`, z + ReLU(product + bias), and then the mixture that slot `slot` is."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    unit = tl.arange(0, UNITS)
    real = row < rows
    mask = real[:, None] & (unit < units)[None, :]
    at = row[:, None] * units + unit[None, :]
    layer = tl.cast(rows, tl.int64) * units
    if MODULE:
        before = (slot - 1) * layer + at
        its_bias = (row // member_rows)[:, None] * bias_stride + (slot - 1) * units + unit[None, :]
        value = tl.load(products + before, mask, 0.0) + tl.load(bias + its_bias, mask, 0.0)
        # Not-a-number stays one, as in torch's ReLU.
        own = tl.load(inputs + before, mask, 0.0) + tl.where(value < 0, 0.0, value)
        tl.store(outputs + slot * layer + at, own, mask)
    else:
        own = tl.load(outputs + at, mask, 0.0)
    total = tl.zeros((ROWS, UNITS), tl.float32)
    if K:
        for e in tl.static_range(K):
            entry = (row * n + slot) * K + e
            source = tl.load(sources + entry, real, 0).to(tl.int64)
            weight = tl.load(mixing + entry, real, 0.0)
            other = mask & (source != slot)[:, None]
            x = tl.load(outputs + source[:, None] * layer + at, other, 0.0)
            total = _mean_of(total, tl.where((source == slot)[:, None], own, x), weight)
    else:
        task = row // samples
        tasks = rows // samples
        for source in range(0, slot):
            weight = tl.load(mixing + (slot * n + source) * tasks + task, real, 0.0)
            x = tl.load(outputs + source * layer + at, mask, 0.0)
            total = _mean_of(total, x, weight)
        weight = tl.load(mixing + (slot * n + slot) * tasks + task, real, 0.0)
        total = _mean_of(total, own, weight)
    tl.store(to + at, total, mask)


@triton.jit(do_not_specialize=["slot"])
def backward_slot(
    gradient,  # [N, H]: of the product that reads the slot's input; for the head, of the input
    outputs,  # [n, N, H]
    products,  # [n - 1, N, H]
    bias,  # [M, >= n - 1, H]
    mixing,  # [n, n, M·T], or [N, n, K]
    sources,  # [N, n, K]
    trusted,  # [N, n, K]
    totals,  # [n, N, H]: gradients of the slots, for a table
    shortcuts,  # [n, N, H]: gradients of the outputs; for routes, begun with 0
    throughs,  # [n, N, H]: the part by trusted ways, begun with 0
    to,  # [N, H]: gradient of the output's product, or of the first output
    mixing_gradient,  # [N, n, K]
    slot,
    n,
    rows,
    units,
    samples,
    member_rows,
    bias_stride,
    K: tl.constexpr,
    TRUST: tl.constexpr,
    HEAD: tl.constexpr,
    MODULE: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
):
    """The gradient of slot `slot`, handed to its sources, and then that of output `slot`."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    unit = tl.arange(0, UNITS)
    real = row < rows
    mask = real[:, None] & (unit < units)[None, :]
    at = row[:, None] * units + unit[None, :]
    layer = tl.cast(rows, tl.int64) * units
    total = tl.load(gradient + at, mask, 0.0)
    by_shortcut = tl.zeros((ROWS, UNITS), tl.float32)
    if not HEAD:
        by_shortcut = tl.load(shortcuts + (slot + 1) * layer + at, mask, 0.0)
        total += by_shortcut
    own = tl.zeros((ROWS, UNITS), tl.float32)
    own_through = tl.zeros((ROWS, UNITS), tl.float32)
    if K:
        for e in tl.static_range(K):
            entry = (row * n + slot) * K + e
            source = tl.load(sources + entry, real, 0).to(tl.int64)
            weight = tl.load(mixing + entry, real, 0.0)
            place = source[:, None] * layer + at
            product = tl.sum(total * tl.load(outputs + place, mask, 0.0), 1)
            tl.store(mixing_gradient + entry, product, real)
            # Sources of a row differ where their weight is not 0: nothing is added twice at once.
            other = mask & ((source != slot) & (weight != 0))[:, None]
            mine = (source == slot)[:, None]
            part = _mean_of(tl.zeros_like(total), total, weight)
            own += tl.where(mine, part, 0.0)
            tl.store(shortcuts + place, tl.load(shortcuts + place, other, 0.0) + part, other)
            if TRUST:
                # Of an untrusted source, only what came by the reader's own shortcut.
                trusts = tl.load(trusted + entry, real, 0) != 0
                part = tl.where(
                    trusts[:, None], part, _mean_of(tl.zeros_like(total), by_shortcut, weight)
                )
                own_through += tl.where(mine, part, 0.0)
                tl.store(throughs + place, tl.load(throughs + place, other, 0.0) + part, other)
        place = slot * layer + at
        own += tl.load(shortcuts + place, mask, 0.0)
        through = own
        if TRUST:
            through = own_through + tl.load(throughs + place, mask, 0.0)
    else:
        task = row // samples
        tasks = rows // samples
        tl.store(totals + slot * layer + at, total, mask)
        weight = tl.load(mixing + (slot * n + slot) * tasks + task, real, 0.0)
        own = _mean_of(own, total, weight)
        for reader in range(slot + 1, n):
            weight = tl.load(mixing + (reader * n + slot) * tasks + task, real, 0.0)
            own = _mean_of(own, tl.load(totals + reader * layer + at, mask, 0.0), weight)
        through = own
    tl.store(shortcuts + slot * layer + at, own, mask)
    if MODULE:
        its_bias = (row // member_rows)[:, None] * bias_stride + (slot - 1) * units + unit[None, :]
        value = tl.load(products + (slot - 1) * layer + at, mask, 0.0)
        value += tl.load(bias + its_bias, mask, 0.0)
        through = tl.where(value <= 0, 0.0, through)
    tl.store(to + at, through, mask)


@triton.jit
def route(
    logits,  # [N, n(n+1)/2]
    temperature,  # [M·T]
    noise,  # [N, n, n]
    given,  # [N, n, n]
    selected,  # [N, n, n]
    sources,  # [N, n, K]
    weights,  # [N, n, K]
    trusted,  # [N, n, K]
    n,
    samples,
    K: tl.constexpr,
    SAMPLED: tl.constexpr,
    GIVEN: tl.constexpr,
    TRUST: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """The k sources of every slot of one row, ascending, and their weights."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, SLOTS)
    source = tl.arange(0, SLOTS)[None, :]
    exists = (source <= slot[:, None]) & (slot < n)[:, None]
    square = (row * n + slot[:, None]) * n + source
    entry = slot[:, None] * (slot[:, None] + 1) // 2 + source
    logit = tl.load(logits + row * (n * (n + 1) // 2) + entry, exists, float("-inf"))
    if GIVEN:
        chosen = (tl.load(given + square, exists, 0) != 0) & exists
    else:
        score = logit
        if SAMPLED:
            score = logit / tl.load(temperature + row // samples)
            score += tl.load(noise + square, exists, 0.0)
        # What is not a number is chosen, and shows in the weights.
        score = tl.where(exists & (score != score), float("inf"), score)
        chosen = source < 0
        for _ in tl.static_range(K):
            best = tl.argmax(score, 1)
            found = (source == best[:, None]) & exists & (score > float("-inf"))
            chosen = chosen | found
            score = tl.where(found, float("-inf"), score)
    whole = (slot < n)[:, None] & (source < n)
    tl.store(selected + square, chosen.to(tl.int8), whole)

    most = tl.max(tl.where(chosen, logit, float("-inf")), 1)[:, None]
    share = tl.where(chosen, tl.exp(logit - most), 0.0)
    share = share / tl.sum(share, 1)[:, None]
    trust = chosen
    if TRUST:
        highest = tl.max(logit, 1)[:, None]
        likely = tl.where(exists, tl.exp(logit - highest), 0.0)
        trust = likely / tl.sum(likely, 1)[:, None] > 1.0 / (slot[:, None] + 2)
    for e in tl.static_range(K):
        first = tl.min(tl.where(chosen, source, SLOTS), 1)
        here = chosen & (source == first[:, None])
        to = (row * n + slot) * K + e
        tl.store(sources + to, tl.where(first < SLOTS, first, 0).to(tl.uint8), slot < n)
        tl.store(weights + to, tl.sum(tl.where(here, share, 0.0), 1), slot < n)
        if TRUST:
            trusts = tl.max((here & trust).to(tl.int32), 1)
            tl.store(trusted + to, trusts.to(tl.uint8), slot < n)
        chosen = chosen & (source != first[:, None])


@triton.jit
def route_gradient(
    gradient,  # [N, n, K]
    weights,  # [N, n, K]
    sources,  # [N, n, K]
    to,  # [N, n(n+1)/2]
    n,
    K: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """Through the softmax over the sources of every slot of one row."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, SLOTS)
    source = tl.arange(0, SLOTS)[None, :]
    mean = tl.zeros((SLOTS,), tl.float32)
    for e in tl.static_range(K):
        entry = (row * n + slot) * K + e
        mean += tl.load(weights + entry, slot < n, 0.0) * tl.load(gradient + entry, slot < n, 0.0)
    total = tl.zeros((SLOTS, SLOTS), tl.float32)
    for e in tl.static_range(K):
        entry = (row * n + slot) * K + e
        part = tl.load(weights + entry, slot < n, 0.0)
        part *= tl.load(gradient + entry, slot < n, 0.0) - mean
        its = tl.load(sources + entry, slot < n, 0).to(tl.int32)
        total += tl.where(source == its[:, None], part[:, None], 0.0)
    exists = (source <= slot[:, None]) & (slot < n)[:, None]
    entry = slot[:, None] * (slot[:, None] + 1) // 2 + source
    tl.store(to + row * (n * (n + 1) // 2) + entry, total, exists)
