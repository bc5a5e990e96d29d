#!/bin/sh
# dp-accounting 0.6.0: of a Poisson-sampled Gaussian, RdpAccountant has at orders that are no whole numbers up to
# a tenth more than the Renyi divergence is; at whole orders it is exact.
#
# One adds fractional orders for a smaller epsilon. Where the best order lies between 2 and 3 they give none: at
# sampling 0.3, noise multiplier 3, 1,500 steps and delta 1e-7 epsilon is 30.5 at order 2, while Opacus, which is
# exact at fractional orders, has 29.5 at order 2.3. What it says holds, as an upper bound; a comparison of two
# accountants to 1 % need not.
#
# Seen with dp-accounting 0.6.0, numpy 2.4.6, Python 3.11: "order 2: 1.000, 2.25: 1.089, 2.5: 1.106, 2.75: 1.070,
# 3: 1.000 of the divergence".
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "dp-accounting==0.6.0" "numpy==2.4.6"
"$work/venv/bin/python" - <<'PYTHON'
import sys

import dp_accounting
import numpy as np
from dp_accounting.rdp import RdpAccountant

RATE, SIGMA, ORDERS = 0.3, 3.0, (2.0, 2.25, 2.5, 2.75, 3.0)

accountant = RdpAccountant(ORDERS)
accountant.compose(
    dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(SIGMA))
)
z = np.linspace(-60, 60, 400_001)
density = np.exp(-(z**2) / (2 * SIGMA**2)) / (SIGMA * np.sqrt(2 * np.pi))
likelihood_ratio = 1 - RATE + RATE * np.exp((2 * z - 1) / (2 * SIGMA**2))


def divergence(order: float) -> float:
    """By quadrature, which is exact to many digits for so smooth an integrand."""
    return float(np.log(np.sum(density * likelihood_ratio**order) * (z[1] - z[0])) / (order - 1))


shares = [float(told) / divergence(order) for order, told in zip(ORDERS, accountant.rdp)]
told = ", ".join(f"{order:g}: {share:.3f}" for order, share in zip(ORDERS, shares))
print(f"order {told} of the divergence")
whole, fractional = (shares[0], shares[-1]), shares[1:-1]
sys.exit(0 if max(whole) < 1.001 and min(fractional) > 1.05 else 1)
PYTHON
