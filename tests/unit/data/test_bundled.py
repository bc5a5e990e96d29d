import sys

import numpy as np
import pytest
import sklearn

from flow_nexus_neural.data.bundled import NAMES, load_bundled
from flow_nexus_neural.errors import DatasetNotFound, NotAvailable


def test_iris_has_its_four_measures_its_classes_and_its_source():
    table, target, source = load_bundled("iris")
    assert (table.rows, target) == (150, "target")
    assert list(table.columns) == [
        "sepal length (cm)",
        "sepal width (cm)",
        "petal length (cm)",
        "petal width (cm)",
        "target",
    ]
    assert [column[0] for column in table.columns.values()] == [5.1, 3.5, 1.4, 0.2, 0.0]
    assert np.bincount(table.columns["target"].astype(int)).tolist() == [50, 50, 50]
    assert source == f"scikit-learn {sklearn.__version__} load_iris"


@pytest.mark.parametrize("name", NAMES)
def test_every_bundled_set_is_whole_and_labelled(name):
    table, target, source = load_bundled(name)
    assert list(table.columns)[-1] == target
    assert all(len(column) == table.rows for column in table.columns.values())
    assert all(np.isfinite(column).all() for column in table.columns.values())
    assert len(np.unique(table.columns[target])) > 1
    assert source.endswith(f"load_{name}")


def test_a_name_that_is_not_bundled_lists_those_that_are():
    with pytest.raises(DatasetNotFound, match="brings no data set 'mnist'") as caught:
        load_bundled("mnist")
    for name in NAMES:
        assert f"sklearn:{name}" in caught.value.hint


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(NotAvailable, match="sklearn:wine needs scikit-learn") as caught:
        load_bundled("wine")
    assert "pip install scikit-learn" in caught.value.hint
