"""How many rows each part of a data set gets: by shares of the rows, or by sizes that the caller gives."""

from dataclasses import dataclass

from flow_nexus_neural.errors import DataTooSmall, InvalidArguments
from flow_nexus_neural.vocabulary import MIN_ROWS

PARTS = ("train", "select", "meta", "verify", "calib", "test")
FULL_ROWS = 2_000
SELECT_ROWS = 200
# Shares of PARTS in per cent, by the number of usable rows from which they apply. From SELECT_ROWS on, select
# has the share that it has from FULL_ROWS on: 16 rows at least, enough to see a training diverge. It is taken
# from train, so the test rows are the same with and without it, and results below FULL_ROWS stay comparable.
SHARES = {
    FULL_ROWS: (62, 8, 10, 7, 5, 8),
    SELECT_ROWS: (72, 8, 0, 0, 0, 20),
    MIN_ROWS: (80, 0, 0, 0, 0, 20),
}


@dataclass(frozen=True)
class SplitRule:
    """How to split.

    Attributes:
        seed: Of the stratified draw; unused for time-ordered rows.
        gap: Rows dropped per series at the end of a part, before a cut.
        embargo: Rows dropped per series at the start of a part, after a cut.
        folds: Of a walk-forward split; None for the plain shares.
        window: Consecutive rows of one series that make one sample.
        test_size: Rows of the test part: a share below 1, else a number of rows; None for the usual share.
            With folds, of every fold's test part.
        validation_size: As `test_size`, of the select part; 0 for none.
        stacking: Whether meta rows are wanted, from which a model learns how to combine others.
        verifying: Whether verify rows are wanted, by which that model is admitted and from which another one
            learns how sure decisions are.
    """

    seed: int
    gap: int = 0
    embargo: int = 0
    folds: int | None = None
    window: int = 1
    test_size: float | None = None
    validation_size: float | None = None
    stacking: bool = False
    verifying: bool = False

    @property
    def unused(self) -> frozenset[str]:
        """Parts that nothing is fitted on or measured by. Their rows are trained on."""
        wanted = {"meta": self.stacking, "verify": self.verifying}
        return frozenset(part for part, is_wanted in wanted.items() if not is_wanted)


Starts = tuple[int, ...]
"""Place at which each of PARTS begins; one that begins where the next one does is empty."""


def possible_starts(rows: int, rule: SplitRule, reserved: int | None) -> list[Starts]:
    """Where the parts may begin among the rows that the source does not reserve, preferred first.

    Without sizes, every part has its share of the rows. With a size, the part has it, and the others keep
    their proportions in what remains, as they do beside reserved test rows and before the last fold's test.

    Args:
        rows: All usable rows.
        rule: The sizes, the folds, and which parts are wanted.
        reserved: Test rows of the source; None where it reserves none.

    Returns:
        One possibility or two; the second has no select part.

    Raises:
        DataTooSmall: If there are too few rows.
        InvalidArguments: If the sizes leave nothing to train on, or contradict reserved rows.
    """
    if rows < MIN_ROWS:
        raise DataTooSmall(
            f"{rows} usable rows; at least {MIN_ROWS} are needed", hint="give more rows"
        )
    _refuse_beside_reserved(rule, reserved)
    tables = _tables(rows, rule)
    count = rows - (reserved or 0)
    if rule.test_size is None and rule.validation_size is None:
        return [_by_shares(count, _around_test(shares, rule, reserved)) for shares in tables]
    return list(dict.fromkeys(_by_sizes(count, shares, rule, reserved) for shares in tables))


def rows_of_size(size: float, rows: int) -> int:
    """Rows that a size means: the nearest number to a share, and at least one, unless it is 0."""
    if size >= 1 or size == 0:
        return int(size)
    return max(1, int(size * rows + 0.5))


def first_of_last_blocks(rows: int, folds: int, number: int, test_rows: int | None) -> int:
    """Where the test of fold `number` (1 to `folds`) begins.

    Args:
        rows: Rows to be divided.
        folds: Their tests are the last blocks of these rows, one after the other.
        number: Of the fold; `folds + 1` gives the end of the last one.
        test_rows: Rows of each test; None for one of `folds + 1` equal blocks.
    """
    if test_rows is not None:
        return rows - (folds + 1 - number) * test_rows
    return (number * rows + (folds + 1) // 2) // (folds + 1)


def _refuse_beside_reserved(rule: SplitRule, reserved: int | None) -> None:
    asked = {"folds": rule.folds, "test_size": rule.test_size}
    for word, given in asked.items():
        if given is not None and reserved is not None:
            raise InvalidArguments(
                f"{word}={given:g} cuts test rows, but the data have {reserved} test rows of their own",
                hint=f"leave {word} out to test on those, or give the path of the training rows alone",
            )


def _tables(rows: int, rule: SplitRule) -> list[tuple[int, ...]]:
    """Shares that this many rows allow, preferred first; the second, if any, has no select part."""
    first = next(low for low in SHARES if rows >= low)
    lows = [first, MIN_ROWS] if first == SELECT_ROWS else [first]
    return [_trained_on(SHARES[low], rule.unused) for low in lows]


def _trained_on(shares: tuple[int, ...], unused: frozenset[str]) -> tuple[int, ...]:
    """Shares with those of unused parts added to train; the test stays where it is."""
    kept = [0 if name in unused else share for name, share in zip(PARTS, shares, strict=True)]
    return (kept[0] + sum(shares) - sum(kept), *kept[1:])


def _around_test(shares: tuple[int, ...], rule: SplitRule, reserved: int | None) -> tuple[int, ...]:
    if reserved is not None:
        return (*shares[:-1], 0)
    if rule.folds is None:
        return shares
    # The last of folds + 1 equal blocks is the test; the others keep their proportions before it.
    return (*(share * rule.folds for share in shares[:-1]), sum(shares[:-1]))


def _by_shares(rows: int, shares: tuple[int, ...]) -> Starts:
    total = sum(shares)
    before = [sum(shares[:index]) for index in range(len(shares))]
    return tuple((part * rows + total // 2) // total for part in before)


def _by_sizes(rows: int, shares: tuple[int, ...], rule: SplitRule, reserved: int | None) -> Starts:
    test = _test_rows(rows, shares, rule, reserved)
    select = rows_of_size(rule.validation_size or 0, rows)
    rest = max(0, rows - test - select)
    usual_select = shares[1] if rule.validation_size is None else 0
    _, first, *later, end = _by_shares(rest, (shares[0], usual_select, *shares[2:-1], 0))
    if not first:
        raise InvalidArguments(
            f"{_sizes_of(rule)} leave no row to train on: there are {rows} rows to divide",
            hint="give less: below 1 a size is a share of the rows, such as 0.2, else a number of rows",
        )
    return (0, first, *(start + select for start in (*later, end)))


def _test_rows(rows: int, shares: tuple[int, ...], rule: SplitRule, reserved: int | None) -> int:
    if reserved is not None:
        return 0
    if rule.test_size is not None:
        return rows_of_size(rule.test_size, rows)
    return rows - _by_shares(rows, _around_test(shares, rule, None))[-1]


def _sizes_of(rule: SplitRule) -> str:
    sizes = {"test_size": rule.test_size, "validation_size": rule.validation_size}
    return " and ".join(f"{name}={size:g}" for name, size in sizes.items() if size is not None)
