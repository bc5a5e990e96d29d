"""Shamir's secret sharing: any `threshold` shares give the secret, fewer tell nothing."""

from collections.abc import Mapping, Sequence

PRIME = 2**256 + 297
"""The smallest prime above every secret of 32 bytes."""
SECRET_BYTES, SHARE_BYTES = 32, 33


def split(secret: bytes, holders: Sequence[int], coefficients: Sequence[int]) -> dict[int, int]:
    """Shares of a secret.

    Args:
        secret: 32 bytes.
        holders: Places of the shares, distinct, from 1.
        coefficients: threshold - 1 secret numbers, uniform in [0, PRIME); as many shares and one more are
            needed to get the secret back.

    Returns:
        The share of each holder, in [0, PRIME).

    Source: Shamir, "How to Share a Secret", CACM 1979.
    """
    if len(secret) != SECRET_BYTES or len(set(holders)) != len(holders) or min(holders) < 1:
        raise ValueError("a secret has 32 bytes, and holders are distinct numbers from 1")
    if not all(0 <= one < PRIME for one in coefficients) or len(coefficients) >= len(holders):
        raise ValueError("coefficients lie below the prime and are fewer than the holders")
    polynomial = [int.from_bytes(secret, "big"), *coefficients]
    return {holder: _value(polynomial, holder) for holder in holders}


def join(shares: Mapping[int, int], threshold: int) -> bytes:
    """The secret of at least `threshold` shares.

    Args:
        shares: By holder.
        threshold: How many of them are used, the lowest holders first.

    Raises:
        ValueError: There are too few, or they are not shares of one secret of 32 bytes.
    """
    secret = share_at(shares, threshold, 0)
    if secret >> (8 * SECRET_BYTES):
        raise ValueError("the shares do not belong to one secret")
    return secret.to_bytes(SECRET_BYTES, "big")


def share_at(shares: Mapping[int, int], threshold: int, at: int) -> int:
    """What a holder must have if these are shares of one secret; the secret itself for holder 0.

    Args:
        shares: By holder.
        threshold: How many of them are used, the lowest holders first.
        at: Place of the holder.

    Raises:
        ValueError: There are too few.
    """
    if len(shares) < threshold:
        raise ValueError(f"{len(shares)} shares are there and {threshold} are needed")
    used = sorted(shares)[:threshold]
    value = 0
    for place in used:
        numerator, denominator = 1, 1
        for other in used:
            if other != place:
                numerator = numerator * (other - at) % PRIME
                denominator = denominator * (other - place) % PRIME
        value += shares[place] * numerator * pow(denominator, -1, PRIME)
    return value % PRIME


def _value(polynomial: Sequence[int], at: int) -> int:
    total = 0
    for coefficient in reversed(polynomial):
        total = (total * at + coefficient) % PRIME
    return total
