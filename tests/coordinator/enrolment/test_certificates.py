"""When a certificate of the gateway's own has to be made anew."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509

from coordinator.enrolment.authority import SERVER_DAYS, Authority, Pair
from coordinator.enrolment.certificates import names_of, unfit
from tests.certificates import NOW

AUTHORITY = Authority.create("depot", NOW)
CA = x509.load_pem_x509_certificate(AUTHORITY.certificate_pem)
HOSTS = ("gw.local", "10.0.0.1", "fd00::1")
SERVER = AUTHORITY.server(HOSTS, NOW)
CLIENT = AUTHORITY.client("coordinator", NOW)


def test_one_that_is_whole_stays() -> None:
    assert unfit(SERVER, CA, HOSTS, NOW) is None
    assert unfit(CLIENT, CA, None, NOW) is None


def test_the_order_case_and_form_of_hosts_do_not_matter() -> None:
    assert unfit(SERVER, CA, ("FD00:0:0:0:0:0:0:1", "GW.local", "10.0.0.1"), NOW) is None


@pytest.mark.parametrize("hosts", [HOSTS[:2], (*HOSTS, "more")])
def test_other_hosts_need_another(hosts: tuple[str, ...]) -> None:
    assert unfit(SERVER, CA, hosts, NOW) == "the one that was there was for other hosts"
    assert unfit(CLIENT, CA, hosts, NOW) == "the one that was there was for other hosts"


def test_one_that_ends_too_soon_is_made_anew_in_time() -> None:
    end = NOW + timedelta(days=SERVER_DAYS)
    assert unfit(SERVER, CA, HOSTS, end - timedelta(days=1)) is None
    assert unfit(SERVER, CA, HOSTS, end + timedelta(days=1)) == f"the one that was there ends on {end:%Y-%m-%d}"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda: None, "there was none"),
        (lambda: Pair(b"", SERVER.certificate_pem), "damaged"),
        (lambda: Pair(SERVER.key_pem, b"junk"), "damaged"),
        (lambda: Pair(CLIENT.key_pem, SERVER.certificate_pem), "did not belong to its key"),
        (lambda: Authority.create("depot", NOW).server(HOSTS, NOW), "not signed by this authority"),
        (lambda: Authority.create("other", NOW).server(HOSTS, NOW), "damaged"),
    ],
    ids=["none", "key", "certificate", "of another key", "of another authority", "of another name"],
)
def test_one_that_cannot_be_used_is_made_anew(damage: Callable[[], Pair | None], said: str) -> None:
    reason = unfit(damage(), CA, HOSTS, NOW)
    assert reason is not None and said in reason


def test_a_clients_certificate_is_for_no_host() -> None:
    assert names_of(x509.load_pem_x509_certificate(CLIENT.certificate_pem)) == frozenset()
