import os

import pytest

from flow_nexus_neural.errors import RuntimeUnavailable
from flow_nexus_neural.runtime.ray import session
from flow_nexus_neural.runtime.ray.session import prepare, require_ray


def test_rays_directory_and_token_are_for_this_user_only_and_the_token_stays(tmp_path):
    found = prepare(tmp_path, {})
    token = tmp_path / "ray" / "token"
    assert (tmp_path / "ray").stat().st_mode & 0o777 == 0o700
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(token.read_text())) == 32
    assert found.environment["RAY_AUTH_MODE"] == "token"
    assert found.environment["RAY_AUTH_TOKEN_PATH"] == str(token)
    assert found.environment["RAY_USAGE_STATS_ENABLED"] == "0"
    kept = token.read_text()
    found.close()
    prepare(tmp_path, {}).close()
    assert token.read_text() == kept


def test_the_driver_gets_rays_own_variables_and_none_of_our_secrets(tmp_path):
    environ = {
        "PATH": "/bin",
        "RAY_AUTH_TOKEN_PATH": "/elsewhere",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "1",
        "FLOW_NEXUS_NEURAL_HTTP_TOKEN": "secret",
        "AWS_SECRET": "secret",
    }
    found = prepare(tmp_path, environ)
    found.close()
    assert found.environment["RAY_AUTH_TOKEN_PATH"] == "/elsewhere"
    assert found.environment["RAY_AUTH_MODE"] == "token"
    assert found.environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert "secret" not in found.environment.values()


def test_where_paths_of_sockets_would_be_too_long_the_directory_is_elsewhere_and_removed(tmp_path):
    deep = tmp_path / ("d" * 100)
    found = prepare(deep, {})
    assert found.passing
    assert not found.directory.is_relative_to(deep)
    assert found.directory.stat().st_mode & 0o777 == 0o700
    longest = str(found.directory) + session._LONGEST_SOCKET
    assert len(os.fsencode(longest)) <= session._SOCKET_PATH_BYTES
    found.close()
    assert not found.directory.exists()
    assert (deep / "ray" / "token").exists()


def test_what_an_earlier_session_left_is_removed_and_nothing_else(tmp_path):
    prepare(tmp_path, {}).close()
    home = tmp_path / "ray"
    (home / "session_1" / "logs").mkdir(parents=True)
    (home / "other").mkdir()
    (home / "session_latest").symlink_to(home / "other")
    prepare(tmp_path, {}).close()
    assert sorted(path.name for path in home.iterdir()) == ["other", "token"]


def test_without_ray_the_error_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(session, "find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailable, match="not installed") as caught:
        require_ray()
    assert "pip install 'flow-nexus-neural[ray]'" in caught.value.hint
