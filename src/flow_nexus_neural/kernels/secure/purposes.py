"""What each agreed key is for: no key serves two sums, two pairs or two uses."""

import hashlib


def masking(session: str, one: str, other: str) -> str:
    """Of the mask that two slots share in a sum; alike for both."""
    first, second = sorted((one, other))
    return f"fnn-mask-1|{session}|{first}|{second}"


def sealing(session: str, sender: str, receiver: str) -> str:
    """Of what one slot seals for another in a sum."""
    return f"fnn-seal-1|{session}|{sender}|{receiver}"


def about_shares(owner: str, holder: str) -> str:
    """Whose secrets a sealed message has shares of, and for whom."""
    return f"shares of {owner} for {holder}"


def commitment_to(secret: bytes) -> str:
    """A digest by which a secret of 32 random bytes is known again, and which tells nothing of it."""
    return hashlib.sha256(b"fnn-own-1" + secret).hexdigest()
