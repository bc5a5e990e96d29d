"""The number of windows in a sequence."""

from flow_nexus_neural.errors import InvalidArchitecture


def count_windows(steps: int | None, window: int, strides: int, where: str) -> int | None:
    """Number of windows of `window` steps, `strides` apart; None if `steps` is not known yet.

    Args:
        steps: Length of the sequence.
        window: Steps that one window covers.
        strides: Steps from one window's start to the next one's.
        where: The layer's name in errors.

    Raises:
        InvalidArchitecture: If the sequence is shorter than one window.
    """
    if steps is None:
        return None
    if window > steps:
        raise InvalidArchitecture(
            f"{where} spans {window} steps but its input has {steps}",
            hint="Use a smaller window, padding 'same' where there is one, or data with more steps",
        )
    return (steps - window) // strides + 1
