"""What an assignment of DP-SGD draws: the rows of each step, and the noise of their sum."""

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.privacy.gaussian import gaussian_noise
from flow_nexus_neural.kernels.privacy.keystream import keystream
from flow_nexus_neural.protocol.messages import PrivateSteps

_USES = 3
"""Streams of a step: the rows, the noise, and the seed of dropout."""
_ROWS, _NOISE, _SEED = range(_USES)
_LEVELS = 2.0**64


class StepDraws:
    """The draws of one assignment; those of a step depend on the key and its number alone.

    They must be secret: who knows which rows a step had gains from their sampling nothing.
    """

    def __init__(self, order: PrivateSteps) -> None:
        self._order, self._key = order, bytes.fromhex(order.key)

    def rows(self, step: int, n: int) -> NDArray[np.int64]:
        """The rows of a step, ascending: each of the n is there with the sampling rate, perhaps none is.

        Source: Poisson sampling, as in Abadi et al., CCS 2016, section 3.1.
        """
        if self._order.sampling_rate == 1.0:
            return np.arange(n)
        words = keystream(self._key, _USES * step + _ROWS, 8 * n).view("<u8")
        return np.flatnonzero(words < np.uint64(self._order.sampling_rate * _LEVELS))

    def noise(self, step: int, n: int) -> NDArray[np.float64]:
        """[n] noise of the sum of a step."""
        scale = self._order.noise_multiplier * self._order.clip_norm
        return scale * gaussian_noise(self._key, _USES * step + _NOISE, n)

    def seed(self, step: int) -> int:
        """Of dropout: the masks of a step's rows are drawn in their order, and nobody knows which rows."""
        return int(keystream(self._key, _USES * step + _SEED, 8).view("<u8")[0] >> np.uint64(1))
