"""Settings: typed, documented, named when wrong; and logs that keep secrets to themselves."""

import base64
import json
from pathlib import Path

import pytest
import structlog

from ops.logs import REDACTED, is_secret
from ops.settings import MASK, SETTINGS, Settings, load, override, to_environ, unknown
from schema.errors import InvalidSetting
from tests.console import run
from tests.serving import captured_log

SECRET = base64.b64encode(bytes(range(32))).decode()
SECRET_KEY = "USAGE_LEDGER_SECRET_KEY"


def test_every_setting_is_a_field_and_every_field_is_documented() -> None:
    assert tuple(each.name for each in SETTINGS) == Settings.__struct_fields__
    assert all(each.help.endswith(".") for each in SETTINGS)


def test_the_defaults_are_the_documented_ones() -> None:
    settings = load({})
    assert (settings.host, settings.port, settings.workers, settings.durability) == ("127.0.0.1", 8000, 1, "full")
    assert settings.call_timeout_s == 1800
    assert settings.directory == Path("data")


def test_a_variable_replaces_a_default_and_an_empty_one_does_not() -> None:
    settings = load({"USAGE_LEDGER_PORT": "65535", "USAGE_LEDGER_HOST": "", "USAGE_LEDGER_SSE_HEARTBEAT_S": "0.5"})
    assert (settings.port, settings.host, settings.sse_heartbeat_s) == (65535, "127.0.0.1", 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("WORKERS", "0"),
        ("WORKERS", "65"),
        ("DURABILITY", "none"),
        ("CALL_TIMEOUT_S", "nan"),
        ("CALL_TIMEOUT_S", "-1"),
        ("SWEEP_INTERVAL_S", "inf"),
        ("QUEUE_COMMANDS_MAX", "1.5"),
        ("UNPRICED_CALLS", "maybe"),
        ("FAILED_CALLS", "accept"),
        ("LOG_LEVEL", "loud"),
        ("SECRET_KEY", "too short"),
        ("SECRET_KEY", base64.b64encode(bytes(31)).decode()),
    ],
)
def test_a_bad_value_is_refused_naming_the_variable(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        load({f"USAGE_LEDGER_{name}": value})
    assert f"USAGE_LEDGER_{name}" in caught.value.detail
    assert (value in caught.value.detail) == (name != "SECRET_KEY")


def test_options_go_over_the_environment_and_are_checked_likewise() -> None:
    settings = load({"USAGE_LEDGER_PORT": "9000"})
    assert override(settings, port=None, host="::1").port == 9000
    assert override(settings, port=9001).port == 9001
    with pytest.raises(InvalidSetting, match="USAGE_LEDGER_PORT=0"):
        override(settings, port=0)


def test_workers_get_the_same_settings_whatever_directory_they_run_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load({"USAGE_LEDGER_CALL_TIMEOUT_S": "0.25", SECRET_KEY: SECRET})
    passed = load(to_environ(settings))
    assert passed == override(settings, data_dir=tmp_path / "data")


def test_a_mistyped_variable_is_told() -> None:
    assert unknown({"USAGE_LEDGER_PROT": "1", "USAGE_LEDGER_PORT": "1", "PATH": ""}) == ["USAGE_LEDGER_PROT"]
    assert "USAGE_LEDGER_PROT is set and is no setting" in run("settings", env={"USAGE_LEDGER_PROT": "1"}).stderr


def test_the_command_lists_each_setting_with_default_value_and_meaning() -> None:
    result = run("settings", env={"USAGE_LEDGER_PORT": "8123"})
    assert "USAGE_LEDGER_PORT=8123  (default: 8000)" in result.stdout
    assert all(each.variable in result.stdout and each.help in result.stdout for each in SETTINGS)


def test_the_command_masks_the_master_key() -> None:
    for arguments in (("settings",), ("settings", "--json")):
        result = run(*arguments, env={SECRET_KEY: SECRET})
        assert SECRET not in result.output
        assert MASK in result.stdout
    items = json.loads(run("settings", "--json", env={SECRET_KEY: SECRET}).stdout)["items"]
    assert [item["value"] for item in items if item["name"] == SECRET_KEY] == [MASK]


@pytest.mark.parametrize("name", ["key", "api_key", "Authorization", "token", "SECRET", "sha256", "password"])
def test_values_of_secret_names_stay_out_of_the_log(name: str) -> None:
    assert is_secret(name)
    with captured_log("json") as text:
        structlog.get_logger().info("request", **{name: "hunter2"}, headers={name: "hunter2"}, rows=[{name: "hunter2"}])
    assert "hunter2" not in text()
    assert json.loads(text())[name] == REDACTED


@pytest.mark.parametrize("name", ["input_tokens", "key_id", "position", "app"])
def test_other_values_are_logged(name: str) -> None:
    with captured_log("json") as text:
        structlog.get_logger().info("request", **{name: 7})
    assert json.loads(text())[name] == 7


@pytest.mark.parametrize("format_", ["json", "console"])
def test_an_error_is_logged_with_its_cause(format_: str) -> None:
    with captured_log("console" if format_ == "console" else "json") as text:
        try:
            int("the cause")
        except ValueError:
            structlog.get_logger().exception("failed")
    assert "the cause" in text()
    assert format_ == "console" or json.loads(text())["level"] == "error"
