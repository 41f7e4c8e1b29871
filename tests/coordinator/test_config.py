"""The coordinator's configuration, as a file of its user and as the run folder keeps it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import msgspec
import pytest

from coordinator.config import CoordinatorConfig, RankSettings, TrainingSettings, decode, encode, load, load_users
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.settings import BrokerSettings


def make_config(folder: Path, users: str | None = "users") -> CoordinatorConfig:
    return CoordinatorConfig(
        fleet="depot",
        pack=folder / "pack",
        classes=("größe", "pump"),
        run_dir=folder / "run",
        users_file=None if users is None else folder / users,
        broker=BrokerSettings(password_file=None if users is None else folder / "password"),
        ranks=RankSettings(target=1.5),
        training=TrainingSettings(importance="energy"),
    )


@pytest.mark.parametrize("users", ["users", None])
def test_a_stored_configuration_is_read_back(tmp_path: Path, users: str | None) -> None:
    assert decode(encode(make_config(tmp_path, users))) == make_config(tmp_path, users)


def test_a_stored_configuration_holds_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stored = encode(make_config(Path("fleet")))
    monkeypatch.chdir("/")
    assert decode(stored) == make_config(tmp_path / "fleet")


@pytest.mark.parametrize("change", [{"unheard_of": 1}, {"pack": 5}, {"seed": -1}])
def test_a_stored_configuration_of_another_version_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    stored = msgspec.json.decode(encode(make_config(tmp_path)))
    with pytest.raises(ConfigError, match="another rankfleet version"):
        decode(msgspec.json.encode({**stored, **change}))


@pytest.mark.parametrize("data", [b"{", b'{"fleet": "\xff"}'])
def test_what_is_no_configuration_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError, match="another rankfleet version"):
        decode(data)


# The file of its user


def write(folder: Path, lines: str = "", classes: str = 'classes = ["belt", "pump"]') -> Path:
    path = folder / "coordinator.toml"
    text = f'fleet = "depot"\npack = "pack"\nrun_dir = "run"\n{classes}\n'
    path.write_text(text + dedent(lines), encoding="utf-8")
    return path


def test_a_short_file_is_enough_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    config = load(write(tmp_path, 'users_file = "users"\n[broker]\npassword_file = "secret"'))
    assert (config.pack, config.run_dir) == (tmp_path / "pack", tmp_path / "run")
    assert (config.users_file, config.broker.password_file) == (tmp_path / "users", tmp_path / "secret")
    assert config.round.quorum <= config.round.expected


@pytest.mark.parametrize(
    ("section", "setting", "values"),
    [
        ("round", "rounds", ("0", "-1", '"many"')),
        ("round", "expected", ("0", "1.5")),
        ("round", "quorum", ("0",)),
        ("round", "gather_s", ("0", "-1.0", "inf", "nan", "1e9")),
        ("round", "deadline_s", ("0", "inf", "nan")),
        ("round", "grace_s", ("0", "nan")),
        ("round", "cohort", ("-1", "1.5")),
        ("round", "over_selection", ("0.9", "11", "nan")),
        ("aggregation", "rule", ('"best"',)),
        ("aggregation", "trim", ("0", "0.6", "nan")),
        ("fallback", "margin", ("-0.1", "1.1", "nan")),
        ("objectives", "round_s", ("-1", "nan")),
        ("objectives", "devices", ("-1", "1.5")),
        ("objectives", "accuracy", ("1.1", "nan")),
        ("objectives", "update_age_s", ("-1",)),
        ("objectives", "webhook", ('"ftp://here"', '"somewhere"')),
        ("guard", "rms_limit", ("0", "65", "nan")),
        ("guard", "beyond", ('"ignore"',)),
        ("guard", "messages_per_s", ("0", "inf")),
        ("ranks", "initial", ("0", "257")),
        ("ranks", "target", ("0", "-1", "nan", "8.5")),
        ("ranks", "threshold", ("-0.1", "1.1", "nan")),
        ("ranks", "warmup_rounds", ("-1", "12")),
        ("ranks", "final_rounds", ("-1", "10")),
        ("training", "batch_size", ("0",)),
        ("training", "local_steps", ("-1",)),
        ("training", "lr", ("0", "11", "nan")),
        ("training", "lr_e", ("0",)),
        ("training", "lr_head", ("0",)),
        ("training", "weight_decay", ("-1", "2")),
        ("training", "scale", ("0", "101", "inf")),
        ("training", "max_tokens", ("7", "4097")),
        ("training", "importance", ('"best"',)),
        ("training", "quantisation", ('"int2"',)),
        ("broker", "port", ("0", "65536")),
        ("broker", "host", ("1",)),
        ("round", "unheard_of", ("1",)),
    ],
)
def test_every_bad_value_is_refused_by_the_name_of_its_setting(
    tmp_path: Path, section: str, setting: str, values: tuple[str, ...]
) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=setting):
            load(write(tmp_path, f"[{section}]\n{setting} = {value}"))


@pytest.mark.parametrize("classes", ["[]", '["one"]', '["one", "one"]', '["one", "two", "one"]', '["one", ""]'])
def test_classes_are_two_or_more_different_names(tmp_path: Path, classes: str) -> None:
    with pytest.raises(ConfigError, match="classes"):
        load(write(tmp_path, classes=f"classes = {classes}"))


@pytest.mark.parametrize("missing", ["fleet", "pack", "classes", "run_dir"])
def test_a_missing_setting_is_named(tmp_path: Path, missing: str) -> None:
    path = write(tmp_path)
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith(missing)))
    with pytest.raises(ConfigError, match=missing):
        load(path)


@pytest.mark.parametrize("fleet", ["a/b", "+", "", "coordinator", "a" * 65])
def test_a_fleet_that_cannot_be_a_topic_is_refused(tmp_path: Path, fleet: str) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("depot", fleet))
    with pytest.raises(ConfigError, match="fleet"):
        load(path)


def test_a_quorum_of_more_than_the_expected_devices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"round\.quorum \(3\).*round\.expected \(2\)"):
        load(write(tmp_path, "[round]\nexpected = 2\nquorum = 3"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load(tmp_path / "nowhere.toml")


# The users file


def test_users_with_comments_and_colons_in_passwords(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("# the gateway\ncoordinator:secret\n\npi-1:a:b:c\n")
    assert load_users(path) == {"coordinator": "secret", "pi-1": "a:b:c"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("hunter2", "line 2: expected name:password"),
        (":hunter2", "line 2: expected name:password"),
        ("pi-1:", "line 2: expected name:password"),
        ("coordinator:hunter2", "line 2: coordinator has a password already"),
    ],
)
def test_a_malformed_line_is_named_but_not_shown(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "users"
    path.write_text(f"coordinator:secret\n{line}\n")
    with pytest.raises(ConfigError, match=reason) as caught:
        load_users(path)
    assert "hunter2" not in str(caught.value)


def test_users_without_the_coordinator_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("pi-1:secret\n")
    with pytest.raises(ConfigError, match="coordinator:password"):
        load_users(path)


def test_a_cohort_below_the_quorum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"round.cohort \(2\) is less than round.quorum \(3\)"):
        load(write(tmp_path, "[round]\nexpected = 3\nquorum = 3\ncohort = 2"))


@pytest.mark.parametrize(("rule", "left_out"), [("mean", None), ("trimmed_mean", 0.2), ("median", 0.5)])
def test_the_rule_of_aggregation_says_how_much_is_left_out(tmp_path: Path, rule: str, left_out: float | None) -> None:
    assert load(write(tmp_path, f'[aggregation]\nrule = "{rule}"')).aggregation.left_out == left_out


def test_the_embedded_broker_and_tls_exclude_each_other(tmp_path: Path) -> None:
    path = write(tmp_path, '[broker]\nca_file = "ca.pem"')
    path.write_text('users_file = "users"\n' + path.read_text())
    with pytest.raises(ConfigError, match="the embedded broker, which has no TLS"):
        load(path)


def test_the_file_of_revoked_devices_is_relative_to_the_configuration(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text('revoked_file = "tls/revoked-devices"\n' + path.read_text())
    assert load(path).revoked_file == tmp_path / "tls" / "revoked-devices"
    assert decode(encode(load(path))) == load(path)
