import os
from pathlib import Path

import pytest

from flow_nexus_neural.cli.flags import build_parser, parse, read_settings
from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.settings import SECRETS, Settings


def test_every_setting_has_a_flag_except_secrets():
    options = {option for action in build_parser()._actions for option in action.option_strings}
    names = {f"--{name.replace('_', '-')}" for name in Settings.model_fields} - {"--allow-paths"}
    assert names - options == {f"--{name.replace('_', '-')}" for name in SECRETS}
    assert "--allow-path" in options


@pytest.mark.parametrize(
    "name", sorted(set(Settings.model_fields) - {"allow_paths", "ray_address"} - SECRETS)
)
def test_a_flag_wins_over_its_variable(name: str, tmp_path: Path):
    samples = {
        "read_only": (True, ["--no-read-only"], False),
        "cgroup": (True, ["--no-cgroup"], False),
        "total_memory_mb": ("500", ["--total-memory-mb", "300"], 300),
        "log_json": (True, ["--no-log-json"], False),
        "require_isolation": ("seccomp", ["--require-isolation", "process"], "process"),
        "hostile": ("kill", ["--hostile", "errno"], "errno"),
        "runtime": ("auto", ["--runtime", "ray"], "ray"),
        "tracker": ("mlflow", ["--tracker", "tensorboard"], "tensorboard"),
        "log_level": ("debug", ["--log-level", "error"], "error"),
        "http_host": ("127.0.0.2", ["--http-host", "::1"], "::1"),
        "node_groups": ("auto", ["--node-groups", "2"], "2"),
        "node_nice": ("7", ["--node-nice", "3"], 3),
    }
    is_path = name.endswith("_dir")
    default = (
        ("/a", [f"--{name.replace('_', '-')}", "/b"], Path("/b"))
        if is_path
        else ("500", [f"--{name.replace('_', '-')}", "200"], 200)
    )
    if name in ("max_nodes", "max_clusters"):
        default = ("50", [f"--{name.replace('_', '-')}", "20"], 20)
    variable, flags, meant = samples.get(name, default)
    environ = {f"FLOW_NEXUS_NEURAL_{name.upper()}": str(variable)}
    from_variable = getattr(read_settings(parse([]), environ), name)
    assert str(from_variable).lower() == str(variable).lower() or float(from_variable) == float(
        variable
    )
    assert getattr(read_settings(parse(flags), environ), name) == meant


def test_an_address_of_ray_belongs_to_its_runtime():
    environ = {
        "FLOW_NEXUS_NEURAL_RUNTIME": "ray",
        "FLOW_NEXUS_NEURAL_RAY_ADDRESS": "10.0.0.1:6379",
    }
    assert read_settings(parse([]), environ).ray_address == "10.0.0.1:6379"
    assert read_settings(parse(["--ray-address", "auto"]), environ).ray_address == "auto"
    assert read_settings(parse(["--runtime", "ray"]), {}).ray_address == "local"
    with pytest.raises(InvalidArguments, match="no effect without runtime=ray"):
        read_settings(parse(["--ray-address", "auto"]), {})
    for wrong in ("10.0.0.1", "ray://10.0.0.1:10001", "host:port"):
        with pytest.raises(InvalidArguments, match="expected local, auto or HOST:PORT"):
            read_settings(parse(["--ray-address", wrong]), environ)
    with pytest.raises(InvalidArguments, match="no node groups"):
        read_settings(parse(["--node-groups", "2"]), environ)


def test_allow_path_can_be_repeated():
    settings = read_settings(parse(["--allow-path", "/a", "--allow-path", "/b"]), {})
    assert settings.allow_paths == (Path("/a"), Path("/b"))
    environ = {"FLOW_NEXUS_NEURAL_ALLOW_PATHS": os.pathsep.join(["/c", "/d"])}
    assert read_settings(parse([]), environ).allow_paths == (Path("/c"), Path("/d"))
    assert read_settings(parse(["--allow-path", "/a"]), environ).allow_paths == (Path("/a"),)


@pytest.mark.parametrize("port", ["0", "-1", "65536", "http", "", "1.5"])
def test_what_is_no_port_is_a_typing_mistake(port: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        parse(["--http", port])
    assert ended.value.code == 2
    assert "expected 1 to 65535" in capsys.readouterr().err


def test_the_directory_of_the_start_is_a_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    settings = read_settings(parse(["--data-dir", "/data"]), {})
    assert settings.data_roots == (Path("/data"), tmp_path)


@pytest.mark.parametrize("place", ["root", "home"])
def test_neither_the_root_nor_the_home_directory_becomes_a_data_root(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/" if place == "root" else tmp_path)
    assert read_settings(parse([]), {}).start_dir is None


def test_a_variable_that_names_no_setting_is_refused():
    with pytest.raises(InvalidArguments, match="FLOW_NEXUS_NEURAL_MAXNODES"):
        read_settings(parse([]), {"FLOW_NEXUS_NEURAL_MAXNODES": "3"})


def test_a_value_that_does_not_fit_is_refused_with_its_flag_and_variable():
    with pytest.raises(InvalidArguments) as caught:
        read_settings(parse(["--max-nodes", "many"]), {})
    assert "--max-nodes" in caught.value.hint
    assert "FLOW_NEXUS_NEURAL_MAX_NODES" in caught.value.hint


def test_a_secret_is_read_from_its_variable_and_never_shown():
    environ = {"FLOW_NEXUS_NEURAL_HTTP_TOKEN": "a-secret-of-many-characters"}
    settings = read_settings(parse([]), environ)
    assert settings.http_token.get_secret_value() == "a-secret-of-many-characters"
    assert "a-secret" not in repr(settings)
    with pytest.raises(InvalidArguments) as refusal:
        read_settings(parse([]), {"FLOW_NEXUS_NEURAL_HTTP_TOKEN": "too-short"})
    assert "too-short" not in str(refusal.value)
    assert "--http-token" not in str(refusal.value)


@pytest.mark.parametrize("blank", ["", " ", os.pathsep, f" {os.pathsep}"])
@pytest.mark.parametrize("name", ["STATE_DIR", "DATA_DIR", "START_DIR", "ALLOW_PATHS"])
def test_an_empty_path_is_not_set_and_never_means_the_working_directory(
    name: str, blank: str, monkeypatch: pytest.MonkeyPatch
):
    if name != "ALLOW_PATHS" and os.pathsep in blank:
        return
    monkeypatch.chdir("/")
    unset = read_settings(parse([]), {})
    assert read_settings(parse([]), {f"FLOW_NEXUS_NEURAL_{name}": blank}) == unset
    flag = "--" + name.lower().replace("_", "-").removesuffix("s")
    if os.pathsep not in blank:
        assert read_settings(parse([flag, blank]), {}) == unset
    assert Path("/") not in unset.data_roots


def test_empty_parts_of_a_list_of_paths_are_dropped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/")
    environ = {"FLOW_NEXUS_NEURAL_ALLOW_PATHS": os.pathsep.join(["", "/srv", " ", ""])}
    assert read_settings(parse([]), environ).allow_paths == (Path("/srv"),)


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - {"allow_paths"}))
def test_an_empty_variable_is_not_set(name: str):
    environ = {f"FLOW_NEXUS_NEURAL_{name.upper()}": ""}
    assert read_settings(parse([]), environ) == read_settings(parse([]), {})


def test_home_and_variables_in_paths_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    flags = ["--data-dir", "~/d", "--allow-path", "$HOME/a", "--allow-path", "${HOME}/b"]
    settings = read_settings(parse([*flags, "--state-dir", "state"]), {})
    assert settings.data_dir == tmp_path / "d"
    assert settings.allow_paths == (tmp_path / "a", tmp_path / "b")
    assert settings.state_dir == tmp_path / "state"


@pytest.mark.parametrize("flag", ["--state-dir", "--data-dir", "--start-dir", "--allow-path"])
@pytest.mark.parametrize("path", ["$NO_SUCH/x", "~nobody-here/x", "${EMPTY}", "$EMPTY/", "FILE"])
def test_a_path_that_cannot_be_expanded_or_is_a_file_is_refused_at_the_start(
    flag: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NO_SUCH", raising=False)
    (tmp_path / "FILE").write_text("")
    given = str(tmp_path / "FILE") if path == "FILE" else path
    with pytest.raises(InvalidArguments, match=r"cannot be expanded|is no directory") as caught:
        read_settings(parse([flag, given]), {})
    assert flag in caught.value.hint


def test_a_home_behind_a_link_does_not_become_a_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "real").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "real")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home")
    assert read_settings(parse([]), {}).start_dir is None
