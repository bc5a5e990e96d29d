"""Bytes that nobody can tell from random ones without the key, from a key and a counter."""

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 32
_NONCE_BYTES = 16
_ZEROS = bytes(1 << 16)
"""What is encrypted, again and again: as much as stays in a cache."""


def keystream(key: bytes, number: int, n_bytes: int) -> NDArray[np.uint8]:
    """The stream of a key with this number: AES-256 in counter mode.

    Args:
        key: 32 secret bytes.
        number: Which stream of the key, in [0, 2**64); one number must never be used for two purposes.
        n_bytes: Length, below 2**36, so that streams of two numbers never overlap.

    Source: NIST SP 800-38A, section 6.5. The number is the upper half of the counter block.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if len(key) != KEY_BYTES or not 0 <= number < 1 << 64 or not 0 <= n_bytes < 1 << 36:
        raise ValueError("a key stream needs a key of 32 bytes and a number below 2**64")
    block = number.to_bytes(8, "big").ljust(_NONCE_BYTES, b"\0")
    encryptor = Cipher(algorithms.AES(key), modes.CTR(block)).encryptor()
    # The only large allocation: fresh memory costs several times as much as the cipher. It is a little
    # longer, since the cipher wants room for one more block.
    stream = np.empty(n_bytes + _NONCE_BYTES, np.uint8)
    view = stream.data
    for start in range(0, n_bytes, len(_ZEROS)):
        count = min(len(_ZEROS), n_bytes - start)
        zeros = _ZEROS if count == len(_ZEROS) else _ZEROS[:count]
        encryptor.update_into(zeros, view[start:])
    return stream[:n_bytes]
