"""DP-SGD in a node: what an assignment says of clipping, noise and sampling of single rows."""

from typing import Annotated

from pydantic import Field

from flow_nexus_neural.protocol.plan import Frozen

MOST_STEPS = 1 << 24
"""Of one pass."""
Size = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class PrivateSteps(Frozen):
    """Every step is taken on rows that are drawn one by one, each clipped, with noise on their sum.

    Attributes:
        key: Secret of the engine and this node: of the rows that are drawn and of the noise. One of each
            assignment, so that no noise serves twice.
        sampling_rate: Probability with which each row is part of a step.
        steps: Of a pass over the shard; it does not depend on how many rows there are.
        clip_norm: Largest L2 norm of the gradient of one row, over all parameters together.
        noise_multiplier: Standard deviation of the noise of the sum, in clip norms.
        expected_rows: By how many rows the noised sum is divided.
    """

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)]
    clip_norm: Size
    noise_multiplier: Size
    expected_rows: Size
