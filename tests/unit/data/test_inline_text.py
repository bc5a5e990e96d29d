"""Data as text in the call: JSON in any form, JSON Lines, and delimited text."""

import json

import numpy as np
import pytest

from flow_nexus_neural.data.data_file import BLOCK_BYTES
from flow_nexus_neural.data.inline_text import InlineText, inline_text
from flow_nexus_neural.data.json_text import MAX_INLINE_BYTES
from flow_nexus_neural.data.options import read_options
from flow_nexus_neural.data.prepare import DataRequest
from flow_nexus_neural.data.resolve import resolve
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

ROWS = [{"a": number, "side": "xy"[number % 2], "label": number % 2} for number in range(40)]


def delimited(mark, end="\n", quote=""):
    lines = [mark.join(f"{quote}{name}{quote}" for name in ROWS[0])]
    lines += [mark.join(f"{value}" for value in row.values()) for row in ROWS]
    return end.join(lines) + end


TEXTS = {
    "csv": delimited(","),
    "windows": delimited(",", end="\r\n"),
    "semicolons": delimited(";"),
    "quoted names": delimited(",", quote='"'),
    "after blank lines": "\n\n" + delimited(","),
    "json lines": "\n".join(map(json.dumps, ROWS)),
    "json": json.dumps(ROWS),
    "json text of json text": json.dumps(json.dumps(ROWS)),
    "json text of csv": json.dumps(delimited(",")),
}


@pytest.mark.parametrize("form", TEXTS)
def test_text_is_read_as_what_it_is(settings, form):
    source = resolve(TEXTS[form], settings)
    assert (source.kind, source.name) == ("inline", "inline")
    assert list(source.table.columns) == ["a", "side", "label"]
    assert source.table.columns["a"].tolist() == list(range(40))


@pytest.mark.parametrize(
    "name", ["a.csv", "data,set.csv", "synthetic:xor", "two\nlines", '"quoted"', ""]
)
def test_a_name_is_no_text(name):
    assert inline_text(name) is None


def test_a_number_sign_in_text_starts_no_options():
    text = "a,label\n#1,0\n#2,1\n"
    assert read_options(DataRequest(text))[0].dataset == text


def test_errors_speak_of_inline_data(settings):
    with pytest.raises(
        InvalidDataset, match=r"^invalid_dataset: inline data near line 3 has 3 fields"
    ):
        resolve("a,label\nx,0\n1,2,3\n", settings)
    with pytest.raises(LimitExceeded, match="inline data: 6000003 bytes; the limit is 5000000"):
        resolve("a,b\n" + "1,2\n" * 1_500_000, settings)


def test_text_is_a_file_in_blocks():
    text = "é," * BLOCK_BYTES
    file = InlineText(text, ".csv")
    assert file.stream().read() == text.encode()
    assert file.size == 3 * BLOCK_BYTES < MAX_INLINE_BYTES
    assert np.unique([len(file.block(index)) for index in range(3)]).tolist() == [BLOCK_BYTES]
