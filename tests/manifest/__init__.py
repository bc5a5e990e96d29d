"""Every promise of the user's document and of the contract, and the tests that hold it.

`tests/unit/test_manifest.py` enforces it in both directions.
"""

from tests.manifest import (
    contract_artifacts,
    contract_building,
    contract_data,
    contract_errors,
    contract_learning,
    contract_mcp,
    contract_networks,
    contract_plots,
    contract_predict,
    contract_rules,
    contract_status,
    contract_train,
    seed_calls,
    seed_claims,
    seed_classes,
    seed_replies,
    seed_words,
)
from tests.manifest.promise import Promise

PROMISES: tuple[Promise, ...] = (
    *seed_words.PROMISES,
    *seed_calls.PROMISES,
    *seed_replies.PROMISES,
    *seed_classes.PROMISES,
    *seed_claims.PROMISES,
    *contract_rules.PROMISES,
    *contract_building.PROMISES,
    *contract_train.PROMISES,
    *contract_status.PROMISES,
    *contract_plots.PROMISES,
    *contract_predict.PROMISES,
    *contract_learning.PROMISES,
    *contract_errors.PROMISES,
    *contract_mcp.PROMISES,
    *contract_data.PROMISES,
    *contract_artifacts.PROMISES,
    *contract_networks.PROMISES,
)
