"""A board asks its own gateway, with its own certificate, and believes no other."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_agent.updating.gateway import Gateway, RefusedError
from edge_agent.updating.settings import GatewaySettings, UpdaterConfig
from edge_agent.wire.errors import ConfigError, EnrolmentError, FetchError, ProtocolError
from edge_agent.wire.updates import Facts, UpdateReport
from tests.update_gateway import UpdateGateway

FACTS = Facts("1.0+local", "x86_64", "3.11")


def test_the_certificate_says_who_asks_and_the_question_what_runs(fleet: UpdateGateway, config: UpdaterConfig) -> None:
    orders = Gateway(config).orders(FACTS)
    assert (orders.renew, orders.release) == (False, None)
    (board,) = fleet.store().boards()
    assert (board.device, board.facts) == ("a", FACTS)


def test_another_authority_is_not_believed(config: UpdaterConfig, tmp_path: Path) -> None:
    other = UpdateGateway(tmp_path / "other")
    try:
        with pytest.raises(EnrolmentError, match="is this the CA of this fleet"):
            Gateway(msgspec.structs.replace(config, gateway=GatewaySettings(other.url))).orders(FACTS)
    finally:
        other.close()


@pytest.mark.parametrize(
    ("status", "kind"), [(400, RefusedError), (302, EnrolmentError), (403, EnrolmentError), (503, EnrolmentError)]
)
def test_a_refusal_is_told_from_a_failure(
    status: int, kind: type[Exception], fleet: UpdateGateway, config: UpdaterConfig
) -> None:
    fleet.faults.status = status
    with pytest.raises(EnrolmentError, match=str(status)) as caught:
        Gateway(config).orders(FACTS)
    assert type(caught.value) is kind


def test_a_report_that_is_refused_is_said_to_be(config: UpdaterConfig) -> None:
    with pytest.raises(RefusedError, match="422"):
        Gateway(config).report(UpdateReport("1.0", "x86_64", "3.11", "never.tar", 9, "failed"))


def test_a_gateway_that_is_off_is_named(fleet: UpdateGateway, config: UpdaterConfig) -> None:
    fleet.close()
    with pytest.raises(EnrolmentError, match=f"{fleet.url} cannot be asked"):
        Gateway(config).orders(FACTS)


def test_an_answer_that_is_none_is_an_error(fleet: UpdateGateway, config: UpdaterConfig) -> None:
    fleet.faults.status = 200
    with pytest.raises(ProtocolError, match="expected orders"):
        Gateway(config).orders(FACTS)


def test_a_bundle_comes_from_where_it_is_asked_for(fleet: UpdateGateway, config: UpdaterConfig) -> None:
    (fleet.folder / "releases" / "a.tar").write_bytes(b"0123456789")
    assert list(Gateway(config).bundle("a.tar", 4)) == [(4, b"456789")]
    fleet.faults.ranges = False
    assert list(Gateway(config).bundle("a.tar", 4)) == [(0, b"0123456789")]


def test_a_bundle_that_is_not_there_is_named(config: UpdaterConfig) -> None:
    with pytest.raises(FetchError, match=r"b\.tar answers 404"):
        list(Gateway(config).bundle("b.tar", 0))


def test_certificates_that_cannot_be_read_are_named(config: UpdaterConfig) -> None:
    config.broker.key_file.write_text("no key", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"device\.key"):
        Gateway(config).orders(FACTS)


def test_a_certificate_that_was_renewed_is_used_at_once(fleet: UpdateGateway, config: UpdaterConfig) -> None:
    gateway = Gateway(config)
    gateway.orders(FACTS)
    fleet.enrol("renewed", config.broker.key_file.parent)
    gateway.orders(FACTS)
    assert [board.device for board in fleet.store().boards()] == ["a", "renewed"]
