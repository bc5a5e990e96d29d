"""Keys that two parties agree on, and messages sealed between them."""

KEY_BYTES = 32


def public_key(private: bytes) -> bytes:
    """The public half, 32 bytes, of a private key of 32 random bytes. Source: RFC 7748, X25519."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agreed_key(private: bytes, other_public: bytes, purpose: str) -> bytes:
    """The key of 32 bytes that this private key and another's public key give, alike at both ends.

    Args:
        private: 32 bytes.
        other_public: 32 bytes.
        purpose: What it is for, with everything that it must not be mixed up with.

    Raises:
        ValueError: The public key is none.

    Source: X25519 (RFC 7748), then HKDF-SHA256 (RFC 5869) with the purpose as its info.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.x25519 import (
        X25519PrivateKey,
        X25519PublicKey,
    )
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    shared = X25519PrivateKey.from_private_bytes(private).exchange(
        X25519PublicKey.from_public_bytes(other_public)
    )
    hkdf = HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=purpose.encode())
    return hkdf.derive(shared)


def seal(key: bytes, content: bytes, about: str) -> bytes:
    """Encrypt one message under a key that seals nothing else, bound to what it is about.

    Source: ChaCha20-Poly1305 (RFC 8439). The nonce is 0: each key is of one session, sender and receiver.
    """
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key).encrypt(bytes(12), content, about.encode())


def unseal(key: bytes, sealed: bytes, about: str) -> bytes:
    """The message that was sealed. Raises `ValueError` if it was altered or is about something else."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), sealed, about.encode())
    except InvalidTag as failure:
        raise ValueError(f"what was sealed about {about} is not what was sent") from failure
