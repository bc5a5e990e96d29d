import json
import logging

from flow_nexus_neural.cli.logs import JsonLines


def test_a_record_is_one_line_of_json_with_its_traceback():
    try:
        raise ValueError("a\nb")
    except ValueError as failure:
        info = (type(failure), failure, failure.__traceback__)
    record = logging.LogRecord("x.y", logging.ERROR, "f.py", 1, "went %s\nwrong", ("all",), info)
    text = JsonLines().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["logger"], line["message"]) == ("error", "x.y", "went all\nwrong")
    assert "ValueError: a\nb" in line["traceback"]
    assert line["time"].endswith("+00:00")
