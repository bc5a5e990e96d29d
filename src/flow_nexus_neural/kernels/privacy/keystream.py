"""Bytes that nobody can tell from random ones without the key, from a key and a counter."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

KEY_BYTES = 32
_NONCE_BYTES = 16
ROOM_BYTES = 16
"""What the cipher wants to have beyond its output: one more block."""
BLOCK_BYTES = 1 << 16
"""As much as stays in a cache."""
_ZEROS = bytes(BLOCK_BYTES)
"""What is encrypted, again and again."""


def keystream(key: bytes, number: int, n_bytes: int) -> NDArray[np.uint8]:
    """The stream of a key with this number: AES-256 in counter mode.

    Args:
        key: 32 secret bytes.
        number: Which stream of the key, in [0, 2**64); one number must never be used for two purposes.
        n_bytes: Length, below 2**36, so that streams of two numbers never overlap.

    Source: NIST SP 800-38A, section 6.5. The number is the upper half of the counter block.
    """
    encryptor = _encryptor(key, number, n_bytes)
    # The only large allocation: fresh memory costs several times as much as the cipher.
    stream = np.empty(n_bytes + ROOM_BYTES, np.uint8)
    view = stream.data
    for start in range(0, n_bytes, BLOCK_BYTES):
        count = min(BLOCK_BYTES, n_bytes - start)
        encryptor.update_into(_ZEROS[:count], view[start:])
    return stream[:n_bytes]


class KeyStream:
    """The same stream part by part, for those who need each part once; arguments as of `keystream`."""

    def __init__(self, key: bytes, number: int, n_bytes: int) -> None:
        self._encryptor = _encryptor(key, number, n_bytes)

    def next_into(self, room: NDArray[np.uint8], n_bytes: int) -> NDArray[np.uint8]:
        """Write the next part to the beginning of a buffer, and return that.

        Args:
            room: [n_bytes + `ROOM_BYTES`] at least.
            n_bytes: At most `BLOCK_BYTES`.
        """
        self._encryptor.update_into(_ZEROS[:n_bytes], room.data)
        return room[:n_bytes]


def _encryptor(key: bytes, number: int, n_bytes: int) -> "CipherContext":
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if len(key) != KEY_BYTES or not 0 <= number < 1 << 64 or not 0 <= n_bytes < 1 << 36:
        raise ValueError("a key stream needs a key of 32 bytes and a number below 2**64")
    block = number.to_bytes(8, "big").ljust(_NONCE_BYTES, b"\0")
    return Cipher(algorithms.AES(key), modes.CTR(block)).encryptor()
