#!/bin/sh
# Flower 1.42.0, FedAdam: the first step is 0.742 eta and not eta, and float32 weights become float64.
#
# Adam's bias correction makes the first step eta times the sign of the change (Kingma and Ba 2015, section
# 2.1, t = 1), and FedAdam of Reddi et al. 2021 (algorithm 2) has no correction at all. Flower counts rounds
# from 1 and corrects with the exponent round + 1, so its first round is corrected as if it were the second:
# sqrt(1 - .99^2) / (1 - .9^2) * (1 - .9) / sqrt(1 - .99) = 0.742. And since numpy's scalars are float64 there,
# clients that start from float32 weights are sent float64 ones after one round: twice the bytes.
# Whoever compares another FedAdam with it, or computes the traffic of a round, has to know both.
#
# Seen with flwr 1.42.0, numpy 2.4.6, Python 3.11: "step 0.742 of eta, float32 in, float64 out".
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "flwr==1.42.0" "numpy==2.4.6"
"$work/venv/bin/python" - <<'PYTHON'
import logging
import sys

import numpy as np

logging.disable(logging.CRITICAL)
from flwr.common import (  # noqa: E402
    Code,
    FitRes,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.server.strategy import FedAdam  # noqa: E402

ETA = 0.1
start = np.zeros(3, np.float32)
strategy = FedAdam(
    initial_parameters=ndarrays_to_parameters([start]),
    eta=ETA, beta_1=0.9, beta_2=0.99, tau=1e-9,
)
trained = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([start + 1]), 10, {})
sent, _ = strategy.aggregate_fit(1, [(None, trained), (None, trained)], [])
(weights,) = parameters_to_ndarrays(sent)
ratio = float(weights[0]) / ETA
print(f"step {ratio:.3f} of eta, {start.dtype} in, {weights.dtype} out")
sys.exit(0 if abs(ratio - 0.742) < 0.001 and weights.dtype == np.float64 else 1)
PYTHON
