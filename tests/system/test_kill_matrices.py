"""What `kill_matrix` makes of a run of pytest, and which runs there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.kill_matrix import KB_128, PRODUCT, SETTING, SMALLEST, Variant, chosen, main, read, remarks, row

RUN = """
import pytest

@pytest.mark.parametrize("seconds", [1.0, 3.0, 2.0, 12.5])
def test_that_passes(seconds, record_property):
    record_property("recovery_s", seconds)

def test_that_fails_before_it_tells():
    assert False, "nobody came back"

def test_that_fails_after_it_told(record_property):
    record_property("recovery_s", 4.0)
    assert False, "another end"

def test_that_does_not_exist_here():
    pytest.skip("no broker of its own")
"""


def test_a_run_becomes_a_row_with_what_failed_and_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "test_run.py").write_text(RUN)
    report = tmp_path / "report.xml"
    told = (f"--junitxml={report}", "-o", "junit_family=xunit1")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *told, "test_run.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 1
    cases = read(report)
    columns = [column.strip() for column in row(SMALLEST, cases).strip("|").split("|")]
    assert columns[:-1] == ["mosquitto", "5", "4096", "6", "4", "3.0", "12.5", "12.5", "1"]
    left_out, *failed = remarks(cases)
    assert "1 cases left out: no broker of its own" in left_out
    assert [line.split()[1] for line in failed] == [
        "test_that_fails_before_it_tells:",
        "test_that_fails_after_it_told:",
    ]


def test_a_run_that_never_began_has_a_row_without_figures() -> None:
    assert row(SMALLEST, []) == "| mosquitto | 5 | 4096 | 0 | 0 | - | - | - | 0 | - |"


def test_the_product_has_both_protocols_at_both_limits_and_the_embedded_broker() -> None:
    assert len(set(PRODUCT)) == 6
    assert {(broker, mqtt) for broker, mqtt, _ in PRODUCT} == {
        ("mosquitto", "5"), ("mosquitto", "3.1.1"), ("amqtt", "3.1.1"),
    }  # fmt: skip


def test_a_test_process_is_told_its_variant_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    assert chosen() == SMALLEST
    for variant in PRODUCT:
        monkeypatch.setenv(SETTING, str(variant))
        assert chosen() == variant
    for wrong in (f"amqtt:5:{KB_128}", "mosquitto:4:4096", "other:5:4096"):
        monkeypatch.setenv(SETTING, wrong)
        with pytest.raises(ValueError, match=SETTING):
            chosen()


def test_amqtt_with_mqtt_5_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--broker", "amqtt", "--mqtt", "5"])
    assert "3.1.1 alone" in capsys.readouterr().err


def test_a_variant_is_read_as_it_is_written() -> None:
    assert str(Variant("mosquitto", "3.1.1", KB_128)) == "mosquitto:3.1.1:131072"
