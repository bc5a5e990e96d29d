import pytest

from flow_nexus_neural.data.options import (
    DataRequest,
    SourceOptions,
    check_range,
    read_options,
)
from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.vocabulary import SEED_LIMIT


def test_a_name_without_a_suffix_is_left_as_it_is():
    request = DataRequest("a.csv", target="y")
    assert read_options(request) == (request, SourceOptions())


@pytest.mark.parametrize("dataset", ['{"a#b": [1]}', ' [{"a": "#"}]', {"a#": [1]}, [{"a": 1}]])
def test_inline_data_have_no_suffix(dataset):
    request = DataRequest(dataset)
    assert read_options(request) == (request, SourceOptions())


def test_every_option_is_read_as_if_it_had_been_an_argument():
    request, options = read_options(
        DataRequest(
            "a.csv#target=y&features=p,%20q&time=ts&window=8&horizon=2&rows=90&seed=7"
            "&exclude=r,s&task=Regression&split=Walk-Forward&folds=3&embargo=4"
            "&test_size=0.25&validation_size=40"
        )
    )
    assert request == DataRequest(
        "a.csv",
        target="y",
        features=("p", "q"),
        exclude=("r", "s"),
        task="regression",
        time_column="ts",
        window=8,
        horizon=2,
        folds=3,
        test_size=0.25,
        validation_size=40,
    )
    assert options == SourceOptions(rows=90, seed=7, embargo=4)


def test_text_of_an_option_may_be_escaped():
    request, _ = read_options(DataRequest("a.csv#target=profit%20%26%20loss"))
    assert request.target == "profit & loss"


def test_a_walk_forward_split_has_five_folds_unless_told_and_the_default_split_none():
    assert read_options(DataRequest("a#split=walk_forward"))[0].folds == 5
    assert read_options(DataRequest("a#split=walk_forward", folds=4))[0].folds == 4
    assert read_options(DataRequest("a#folds=3"))[0].folds == 3
    assert read_options(DataRequest("a#split=default"))[0].folds is None
    with pytest.raises(InvalidArguments, match="folds=4 and split=default contradict"):
        read_options(DataRequest("a#split=default", folds=4))
    with pytest.raises(InvalidArguments, match="folds is 4 as an argument and 3 behind"):
        read_options(DataRequest("a#folds=3", folds=4))


def test_the_same_value_twice_agrees_and_another_one_does_not():
    assert read_options(DataRequest("a#window=8", window=8))[0].window == 8
    with pytest.raises(InvalidArguments, match="window is 9 as an argument and 8 behind"):
        read_options(DataRequest("a#window=8", window=9))


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        ("colour=1", "option 'colour' is unknown"),
        ("window", "option 'window' is ''"),
        ("task=ranking", "option 'task' is 'ranking'"),
        ("exclude=", "option 'exclude' is empty"),
        ("window=1", "option 'window' is '1'"),
        ("window=513", "option 'window' is '513'"),
        ("horizon=-1", "option 'horizon' is '-1'"),
        ("rows=29", "option 'rows' is '29'"),
        (f"seed={SEED_LIMIT}", f"option 'seed' is '{SEED_LIMIT}'"),
        ("seed=\u0663", "option 'seed'"),
        ("embargo=10001", "option 'embargo'"),
        ("split=walk_forward&folds=1", "option 'folds' is '1'"),
        ("split=random", "option 'split' is 'random'"),
        ("split=default&folds=3", "folds=3 and split=default contradict"),
        ("test_size=a%20third", "option 'test_size' is 'a third'"),
        ("test_size=nan", "test_size=nan is neither a share nor a number of rows"),
        ("validation_size=-0.1", "validation_size=-0.1 is neither"),
        ("target=", "option 'target' is empty"),
        ("features=,", "option 'features' is empty"),
        ("seed=1&seed=1", "option 'seed' is given twice"),
        ("time=a&time_column=b", "option 'time_column' is given twice"),
    ],
)
def test_an_option_that_cannot_be_is_named(suffix, words):
    with pytest.raises(InvalidArguments, match=words):
        read_options(DataRequest("a.csv#" + suffix))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"window": 1}, "window=1 is outside 2-512"),
        ({"window": 513}, "window=513 is outside 2-512"),
        ({"horizon": -1}, "horizon=-1 is outside 0-512"),
        ({"folds": 1}, "folds=1 is outside 2-50"),
        ({"test_size": 0}, "test_size=0 is neither a share nor a number of rows"),
        ({"test_size": 1.5}, "test_size=1.5 is neither"),
        ({"test_size": float("inf")}, "test_size=inf is neither"),
        ({"validation_size": -1}, "validation_size=-1 is neither"),
        ({"test_size": 0.5, "validation_size": 0.5}, "leave nothing to train on"),
        ({"features": ()}, "features is empty"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(InvalidArguments, match=words):
        check_range(DataRequest("a", **arguments))
    check_range(DataRequest("a", window=512, horizon=0, features=("a",), folds=2))
    check_range(DataRequest("a", test_size=0.9, validation_size=0))
    check_range(DataRequest("a", test_size=1, validation_size=10))
