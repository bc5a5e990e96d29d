"""Files may be written below the write roots alone, and a refusal says where."""

import sys

import pytest

from flow_nexus_neural.data import output_place as place_of_output
from flow_nexus_neural.data.output_place import output_place
from flow_nexus_neural.errors import InvalidArguments, NotAvailable, PathNotAllowed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="not offered there")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_a_relative_path_lies_in_the_first_root_and_an_absolute_one_below_any(tmp_path, folder):
    other = tmp_path / "other"
    other.mkdir()
    roots, state = [folder, other], tmp_path / "state"
    assert output_place("a.csv", roots, state).path == folder / "a.csv"
    assert output_place(str(other / "a.CSV"), roots, state).suffix == ".csv"
    assert output_place(f"file://{other}/a.csv", roots, state).path == other / "a.csv"
    with pytest.raises(PathNotAllowed, match="outside"):
        output_place(str(tmp_path / "a.csv"), roots, state)


def test_nothing_is_written_into_the_state_directory_but_below_its_data(tmp_path):
    state = tmp_path / "state"
    data = state / "data"
    (state / "blobs").mkdir(parents=True)
    data.mkdir()
    assert output_place("a.csv", [data], state).path == data / "a.csv"
    for roots in ([data, state], [data, tmp_path], [state]):
        for name in ("state.db", "a.csv", "blobs/a.csv"):
            with pytest.raises(PathNotAllowed, match="state directory"):
                output_place(str(state / name), roots, state)
    assert output_place(str(data / "a.csv"), [data, tmp_path], state).root == data


def test_a_system_without_descriptors_of_directories_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(place_of_output, "CAN_WALK", False)
    with pytest.raises(NotAvailable):
        output_place("a.csv", [tmp_path], tmp_path / "state")


@pytest.mark.parametrize(
    ("name", "said"), [("a\nb.csv", "printable"), ("x" * 300 + ".csv", "shorter")]
)
def test_a_name_with_a_line_break_or_too_long_is_refused_with_what_is_wrong(
    tmp_path, folder, name, said
):
    with pytest.raises(InvalidArguments) as refused:
        output_place(name, [folder], tmp_path / "state")
    assert said in refused.value.hint


@pytest.mark.parametrize("name", ["p2.py/", "p2.py//", "p2.py/.", "sub/"])
def test_a_path_that_ends_like_a_folder_is_none_of_a_file(tmp_path, folder, name):
    with pytest.raises(InvalidArguments, match="names a folder, and a file is to be written") as no:
        output_place(name, [folder], tmp_path / "state", "path")
    assert no.value.hint.endswith(name.rstrip("/."))
    assert output_place(name, [folder], tmp_path / "state", folder=True).path == folder / name


def test_the_advice_never_names_a_directory_into_which_nothing_may_be_written(tmp_path, folder):
    state = tmp_path / "state"
    state.mkdir()
    for roots, advice in (
        ([state], "start the server with --allow-path DIR, a directory apart from"),
        ([state, folder], f"write below {folder} (given by --allow-path)"),
        (
            [state / "data", folder],
            f"write below {state / 'data'} (set by --data-dir), or below 1 more",
        ),
    ):
        for given in (roots, [*roots, state]):  # that it is no root either is not the reason
            with pytest.raises(PathNotAllowed, match="lies in the state directory") as refused:
                output_place(str(state / "a.csv"), given, state)
            assert refused.value.hint.startswith(advice)
