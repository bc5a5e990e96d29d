"""Bytes that nobody can tell from random ones without the key, from a key and a counter."""

KEY_BYTES = 32
_NONCE_BYTES = 16


def keystream(key: bytes, number: int, n_bytes: int) -> bytes:
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
    return encryptor.update(bytes(n_bytes)) + encryptor.finalize()
