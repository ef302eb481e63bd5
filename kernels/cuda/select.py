"""The kernels of detection: score all anchors, select the best, suppress, write the result.

Two launches. `score_anchors` spreads all anchors over the GPU and appends those that reach the
threshold to a list of keys. `select_boxes` takes one block a picture: of the keys the best N, best
first, then their boxes, then suppression. A key orders like the score, and among equal scores
like the anchors, so the order in which threads happened to append changes nothing.

They use only what Numba's simulator supports: no shuffles, ballots or barriers of a warp.
"""

from __future__ import annotations

import numpy as np
from numba import cuda, types

from squeezedrive.kernels import formulas

SCORE_BLOCK = 256  # threads of `score_anchors`
SELECT_BLOCK = 512  # threads of `select_boxes`; a multiple of 32
CAPACITY = 1024  # keys sorted at once; a power of two, at least MAX_TOP_N
MAX_TOP_N = 256  # the pairwise overlaps of so many boxes fit into shared memory
RECORD = 6  # values of a box in the result: x1, y1, x2, y2, score, class

# What `settings` holds: these three, then the smallest score of each class.
LOGIT_CUTOFF, NMS_IOU, GREEDY, THRESHOLDS = range(4)

_WORDS = MAX_TOP_N // 32
_ALL = np.uint32(0xFFFFFFFF)
_NO_KEY = np.uint64(0)

_safe_exp = cuda.jit(device=True)(formulas.safe_exp)
_sigmoid = cuda.jit(device=True)(formulas.sigmoid)
_best_class = cuda.jit(device=True)(formulas.best_class)
_box_corners = cuda.jit(device=True)(formulas.box_corners)
_box_iou = cuda.jit(device=True)(formulas.box_iou)


@cuda.jit(device=True)
def _key(output, first, channels, cells, anchor, cell, settings):
    """Return the key of an anchor, or 0 if it does not reach the threshold.

    The upper half is the score, whose bits order like a number because it is not negative. The
    lower half is all ones minus (number of the anchor x classes + class).
    """
    n_classes = channels.shape[1] - 5
    confidence = np.float32(output[first + channels[anchor, n_classes] * cells + cell])
    if confidence < settings[LOGIT_CUTOFF]:
        return _NO_KEY
    start = first + channels[anchor, 0] * cells + cell
    best, probability = _best_class(output, start, cells, n_classes)
    score = _sigmoid(confidence) * probability
    # "not >=" also drops NaN, which a broken network gives.
    if not score >= settings[THRESHOLDS + best]:
        return _NO_KEY
    name = np.uint32((cell * channels.shape[0] + anchor) * n_classes + best)
    return (np.uint64(score.view(np.uint32)) << np.uint64(32)) | np.uint64(_ALL - name)


@cuda.jit
def score_anchors(output, channels, cells, settings, keys, counts):
    """Append the keys of all anchors that reach the threshold to the picture's list.

    Neighbouring threads take neighbouring cells, which lie side by side in memory.
    """
    picture = cuda.blockIdx.y
    i = cuda.grid(1)
    if i < channels.shape[0] * cells:
        anchor = i // cells
        first = picture * channels.size * cells
        key = _key(output, first, channels, cells, anchor, i - anchor * cells, settings)
        if key != _NO_KEY:
            keys[picture, cuda.atomic.add(counts, picture, 1)] = key


@cuda.jit(device=True)
def _lowest_of_best(keys, picture, count, n):
    """Return a key that at least `n` and at most CAPACITY keys reach, or 0 if all have room.

    Descends through the keys' digits, 8 bits at a time, from the highest: keys that share all
    digits so far are counted by their next one.
    """
    if count <= CAPACITY:
        return _NO_KEY
    thread = cuda.threadIdx.x
    bins = cuda.shared.array(256, types.int32)
    chosen = cuda.shared.array(2, types.int32)  # the n-th key's digit, and keys above that digit
    digits = np.uint64(0)  # of the n-th key, those known so far
    larger = 0  # keys with higher digits
    shift = 64
    while True:
        shift -= 8
        for digit in range(thread, 256, SELECT_BLOCK):
            bins[digit] = 0
        cuda.syncthreads()
        for i in range(thread, count, SELECT_BLOCK):
            key = keys[picture, i] >> np.uint64(shift)
            if key >> np.uint64(8) == digits:
                cuda.atomic.add(bins, np.int32(key & np.uint64(255)), 1)
        cuda.syncthreads()
        for digit in range(thread, 256, SELECT_BLOCK):
            above = larger
            for higher in range(digit + 1, 256):
                above += bins[higher]
            if above < n <= above + bins[digit]:
                chosen[0] = digit
                chosen[1] = above
        cuda.syncthreads()
        larger = chosen[1]
        digits = (digits << np.uint64(8)) | np.uint64(chosen[0])
        if larger + bins[chosen[0]] <= CAPACITY:  # at the last digit they are exactly n
            return digits << np.uint64(shift)
        cuda.syncthreads()


@cuda.jit(device=True)
def _gather(keys, picture, count, lowest, best):
    """Copy the keys from `lowest` on into `best`, in any order, and return how many."""
    thread = cuda.threadIdx.x
    found = cuda.shared.array(1, types.int32)
    if thread == 0:
        found[0] = 0
    cuda.syncthreads()
    for i in range(thread, count, SELECT_BLOCK):
        if keys[picture, i] >= lowest:
            best[cuda.atomic.add(found, 0, 1)] = keys[picture, i]
    cuda.syncthreads()
    return found[0]


@cuda.jit(device=True)
def _sort(best, count):
    """Sort the first `count` keys, the largest first: a bitonic network, filled up with zeros."""
    thread = cuda.threadIdx.x
    size = 1
    while size < count:
        size *= 2
    for i in range(count + thread, size, SELECT_BLOCK):
        best[i] = _NO_KEY
    cuda.syncthreads()
    run = 2
    while run <= size:
        distance = run >> 1
        while distance > 0:
            for i in range(thread, size, SELECT_BLOCK):
                partner = i ^ distance
                if partner > i:
                    a, b = best[i], best[partner]
                    if (a < b) == (i & run == 0):
                        best[i] = b
                        best[partner] = a
            cuda.syncthreads()
            distance >>= 1
        run *= 2


@cuda.jit(device=True)
def _decode(
    output, first, anchors, channels, cells, exp_threshold, x_max, y_max, reach, name, boxes, i
):  # fmt: skip
    """Write the box of an anchor into column `i` of `boxes`."""
    anchor = name // (channels.shape[1] - 5)
    cell = anchor // channels.shape[0]
    in_cell = anchor - cell * channels.shape[0]
    delta = first + channels[in_cell, channels.shape[1] - 4] * cells + cell
    boxes[0, i], boxes[1, i], boxes[2, i], boxes[3, i] = _box_corners(
        anchors[anchor, 0],
        anchors[anchor, 1],
        anchors[anchor, 2],
        anchors[anchor, 3],
        np.float32(output[delta]),
        np.float32(output[delta + cells]),
        _safe_exp(np.float32(output[delta + 2 * cells]), exp_threshold),
        _safe_exp(np.float32(output[delta + 3 * cells]), exp_threshold),
        x_max,
        y_max,
        reach,
    )


@cuda.jit(device=True)
def _find_overlaps(boxes, classes, n, nms_iou, overlaps):
    """Set bit j of row i where the better box j of the same class overlaps box i too much."""
    thread = cuda.threadIdx.x
    for i in range(thread, n * _WORDS, SELECT_BLOCK):
        overlaps[i // _WORDS, i % _WORDS] = np.uint32(0)
    cuda.syncthreads()
    lane = thread & 31
    for i in range(thread >> 5, n, SELECT_BLOCK >> 5):
        for j in range(lane, i, 32):
            if classes[j] == classes[i]:
                iou = _box_iou(
                    boxes[0, j],
                    boxes[1, j],
                    boxes[2, j],
                    boxes[3, j],
                    boxes[0, i],
                    boxes[1, i],
                    boxes[2, i],
                    boxes[3, i],
                )
                if iou > nms_iou:
                    cuda.atomic.or_(overlaps, (i, j >> 5), np.uint32(1) << np.uint32(lane))
    cuda.syncthreads()


@cuda.jit(device=True)
def _suppress(overlaps, n, greedy, gone, kept):
    """Set bit i of `kept` for each box that stays; see `kernels.reference.nms`.

    Greedy suppression has to know of a box's fate before it can decide that of worse ones: one
    thread decides 32 boxes, then all threads carry out what these do to the others.
    """
    thread = cuda.threadIdx.x
    for i in range(thread, n, SELECT_BLOCK):
        gone[i] = 0
    cuda.syncthreads()
    for word in range((n + 31) >> 5):
        if thread == 0:
            alive = np.uint32(0)
            for i in range(word * 32, min(word * 32 + 32, n)):
                active = alive if greedy else _ALL
                if gone[i] == 0 and overlaps[i, word] & active == np.uint32(0):
                    alive |= np.uint32(1) << np.uint32(i & 31)
            kept[word] = alive
        cuda.syncthreads()
        active = kept[word] if greedy else _ALL
        for i in range(thread, n, SELECT_BLOCK):
            if overlaps[i, word] & active != np.uint32(0):
                gone[i] = 1
        cuda.syncthreads()


@cuda.jit
def select_boxes(
    output, anchors, channels, cells, exp_threshold, x_max, y_max, reach, settings, top_n, keys,
    counts, result,
):  # fmt: skip
    """Write the boxes that are kept, best first, and how many there are; see `DetectKernels`.

    Leaves `counts` at 0 for the next pictures.
    """
    picture = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    best = cuda.shared.array(CAPACITY, types.uint64)
    boxes = cuda.shared.array((4, MAX_TOP_N), types.float32)
    classes = cuda.shared.array(MAX_TOP_N, types.int32)
    gone = cuda.shared.array(MAX_TOP_N, types.int32)
    kept = cuda.shared.array(_WORDS, types.uint32)
    overlaps = cuda.shared.array((MAX_TOP_N, _WORDS), types.uint32)

    count = counts[picture]
    lowest = _lowest_of_best(keys, picture, count, top_n)
    found = _gather(keys, picture, count, lowest, best)
    if thread == 0:
        counts[picture] = 0
    _sort(best, found)
    n = min(found, top_n)
    first = picture * channels.size * cells
    n_classes = channels.shape[1] - 5
    for i in range(thread, n, SELECT_BLOCK):
        name = np.int64(_ALL - np.uint32(best[i] & np.uint64(_ALL)))
        classes[i] = name % n_classes
        _decode(
            output,
            first,
            anchors,
            channels,
            cells,
            exp_threshold,
            x_max,
            y_max,
            reach,
            name,
            boxes,
            i,
        )
    cuda.syncthreads()
    _find_overlaps(boxes, classes, n, settings[NMS_IOU], overlaps)
    _suppress(overlaps, n, settings[GREEDY] != np.float32(0), gone, kept)

    for i in range(thread, n, SELECT_BLOCK):
        word = i >> 5
        bit = np.uint32(1) << np.uint32(i & 31)
        if kept[word] & bit != np.uint32(0):
            place = cuda.popc(kept[word] & (bit - np.uint32(1)))
            for before in range(word):
                place += cuda.popc(kept[before])
            start = 1 + RECORD * place
            for corner in range(4):
                result[picture, start + corner] = boxes[corner, i]
            score = np.uint32(best[i] >> np.uint64(32)).view(np.float32)
            result[picture, start + 4] = score
            result[picture, start + 5] = np.float32(classes[i])
    if thread == 0:
        total = 0
        for word in range((n + 31) >> 5):
            total += cuda.popc(kept[word])
        result[picture, 0] = np.float32(total)
