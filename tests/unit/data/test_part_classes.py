import numpy as np
import pytest

from flow_nexus_neural.data.part_classes import lacking_classes, require_classes
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.targets import Labels
from flow_nexus_neural.errors import InvalidDataset


def part(*labels):
    none = np.full(len(labels), -1, dtype=np.int32)
    return Rows(np.zeros((len(labels), 1), dtype=np.float32), np.array(labels), none, none)


def test_a_class_that_no_training_row_has_is_refused():
    values = np.array([0.0, 1, 2, 0, 1])
    labels = Labels("y", "multiclass", ["a", "b", "c"], values, values >= 0, 0, is_return=False)
    require_classes(labels, np.arange(5))
    with pytest.raises(InvalidDataset, match="'c' of target 'y' does not occur in the training"):
        require_classes(labels, np.array([0, 1, 3]))


def test_test_rows_of_one_class_are_a_warning():
    [warning] = lacking_classes(["no", "yes"], {"train": part(0, 1), "test": part(0, 0, 0)})
    assert warning.startswith(
        "all 3 test rows are of the class 'no': neither accuracy nor baseline"
    )


def test_a_part_without_a_class_is_a_warning_and_an_empty_part_is_none():
    parts = {"select": part(0, 1), "meta": part(), "test": part(1, 2)}
    assert lacking_classes([7, 8, 9], parts) == [
        "no row of the class 9 is in the part 'select'",
        "no row of the class 7 is in the part 'test'",
    ]
    assert lacking_classes(None, parts) == []


def test_two_positives_of_many_and_late_rows_of_one_class_are_told(load):
    noise = np.random.Generator(np.random.PCG64(14)).standard_normal(300)
    rare = [{"a": float(noise[k]), "label": int(k in (5, 7))} for k in range(300)]
    assert any("all 60 test rows are of the class 0" in told for told in load(rare).warnings)
    late = [{"time": k, "a": float(noise[k]), "label": int(k % 2 and k < 240)} for k in range(300)]
    assert any("all 60 test rows are of the class 0" in told for told in load(late).warnings)
