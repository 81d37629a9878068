"""The images, labels and starting weights that every peer uses: drawn from a hash, so that no peer needs another's generator.

Equal losses in the first steps then show that the peers do the same work.
"""

import numpy as np

SIDE, CLASSES = 32, 10


def draw(seed, count, bound):
    """`count` numbers, uniform in [-bound, bound): a 32-bit integer hash of index and seed."""
    with np.errstate(over="ignore"):
        h = np.arange(count, dtype=np.uint32) + np.uint32(seed) * np.uint32(0x9E3779B9)
        for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
            h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
        h ^= h >> np.uint32(15)
    return ((h >> np.uint32(8)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)) * np.float32(bound)


def images(batch):
    """Images [batch, 3, 32, 32], flat: uniform with variance 1."""
    return draw(0, batch * 3 * SIDE * SIDE, 3**0.5)


def labels(batch):
    return np.arange(batch, dtype=np.int64) % CLASSES


def layers():
    """(shape, weights) of each convolution [out, in, 3, 3] from the stem on, then of the classifier [10, 64]; its bias is zero."""
    channels = [(3, 16)] + [(16, 16)] * 6 + [(16, 32)] + [(32, 32)] * 5 + [(32, 64)] + [(64, 64)] * 5
    shapes = [(o, i, 3, 3) for i, o in channels] + [(CLASSES, 64)]
    for at, shape in enumerate(shapes):
        fan_in = int(np.prod(shape[1:]))
        bound = (6 / fan_in) ** 0.5 if len(shape) == 4 else fan_in**-0.5
        yield shape, draw(at + 1, int(np.prod(shape)), bound)
