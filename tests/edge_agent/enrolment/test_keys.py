from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.enrolment.authority import Authority
from edge_agent.enrolment import files, openssl
from edge_agent.enrolment.keys import Identity, Pair
from edge_agent.wire.errors import ConfigError, EnrolmentError
from edge_agent.wire.tls import TlsSettings, context
from tests.certificates import NOW

AUTHORITY = Authority.create("site", NOW)


def signed(pair: Pair, days: int = 0) -> bytes:
    return AUTHORITY.sign(openssl.make_request(pair.key, "pi-1"), "pi-1", NOW + timedelta(days=days)).certificate_pem


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.certificate_pem)
    return Identity(tmp_path)


def usable(identity: Identity) -> bytes:
    """The certificate that a program would show now; its key belongs to it."""
    certificate, key = identity.folder / "device.pem", identity.folder / "device.key"
    context(TlsSettings(identity.folder / "ca.pem", certificate, key))
    return certificate.read_bytes()


def test_the_key_is_the_owners_alone_and_stays_the_same_until_it_has_a_certificate(identity: Identity) -> None:
    pair = identity.next()
    assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(pair.folder.stat().st_mode) == 0o700
    before = pair.key.read_bytes()
    identity.settle()
    assert identity.next() == pair
    assert pair.key.read_bytes() == before
    assert identity.current() is None


def test_pair_after_pair_is_switched_to(identity: Identity) -> None:
    for day in range(3):
        pair = identity.next()
        certificate = signed(pair, day)
        identity.switch(pair, certificate)
        assert usable(identity) == certificate
        identity.settle()
        assert [one.folder for one in identity._pairs()] == [pair.folder.resolve()]


@pytest.mark.parametrize("links", [0, 1, 2])
def test_a_first_switch_that_was_cut_off_is_ended(
    identity: Identity, links: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the certificate, and after each of the links."""
    pair = identity.next()
    certificate, whole, made = signed(pair), files.link, [0]

    def cut_off(path: Path, target: str) -> None:
        if made[0] == links:
            raise KeyboardInterrupt
        made[0] += 1
        whole(path, target)

    monkeypatch.setattr(files, "link", cut_off)
    with pytest.raises(KeyboardInterrupt):
        identity.switch(pair, certificate)
    monkeypatch.undo()
    assert identity.current() is None
    identity.settle()
    assert usable(identity) == certificate


def test_a_switch_that_was_cut_off_is_ended(identity: Identity) -> None:
    first = identity.next()
    identity.switch(first, signed(first))
    second = identity.next()
    certificate = signed(second, 1)
    files.write(second.certificate, certificate)
    assert usable(identity) == first.certificate.read_bytes(), "until the links change, the old pair is in use"
    identity.settle()
    assert usable(identity) == certificate
    assert len(identity._pairs()) == 1


def test_a_certificate_for_another_key_is_refused(identity: Identity, tmp_path: Path) -> None:
    pair, other = identity.next(), tmp_path / "other"
    other.mkdir()
    files.write(other / "device.key", openssl.make_key(), files.PRIVATE)
    with pytest.raises(EnrolmentError, match="another key"):
        identity.switch(pair, signed(Pair(other)))
    assert identity.current() is None
    assert identity.next() == pair


def test_files_of_somebody_else_are_not_touched(identity: Identity) -> None:
    (identity.folder / "device.key").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="was not made by"):
        identity.settle()


def test_the_folder_of_a_configuration(tmp_path: Path) -> None:
    assert Identity.of(tmp_path / "device.pem", tmp_path / "device.key").folder == tmp_path
    for certificate, key in (("a.pem", "device.key"), ("device.pem", "x/device.key")):
        with pytest.raises(ConfigError, match=r"device\.pem"):
            Identity.of(tmp_path / certificate, tmp_path / key)
