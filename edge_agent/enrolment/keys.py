"""The identity folder of a board: its key and certificate, replaced together at one moment.

::

    ca.pem                      the fleet's authority
    pairs/<name>/device.key     a key, and behind it its certificate, once it is there
    pairs/<name>/device.pem
    current -> pairs/<name>     the pair in use
    device.key, device.pem      links through `current`: what configurations name
    joining.json                the request that is under way, or was answered
    newest-date                 see `dates.py`

A pair without a certificate is one that the gateway is still asked for: whoever goes on after a crash goes on with its
key. A key is never written over.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from edge_agent.enrolment import files, openssl
from edge_agent.wire import durable
from edge_agent.wire.errors import ConfigError, EnrolmentError

KEY, CERTIFICATE = "device.key", "device.pem"
PAIRS, CURRENT = "pairs", "current"


@dataclass(frozen=True)
class Pair:
    """A key and its certificate, in a folder of their own."""

    folder: Path

    @property
    def key(self) -> Path:
        """The private key, readable by its owner only."""
        return self.folder / KEY

    @property
    def certificate(self) -> Path:
        """Its certificate, once the gateway has given it."""
        return self.folder / CERTIFICATE


class Identity:
    """The identity folder of one board."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, certificate: Path, key: Path) -> Identity:
        """The folder that a configuration's certificate and key are in.

        Raises:
            ConfigError: they are not named as in such a folder.
        """
        if certificate.parent != key.parent or (certificate.name, key.name) != (CERTIFICATE, KEY):
            raise ConfigError(
                f"expected {CERTIFICATE} and {KEY} in one folder, got {certificate} and {key}: name the files in the "
                "board's identity folder"
            )
        return cls(certificate.parent)

    def current(self) -> Pair | None:
        """The pair in use; None before the board was let in.

        Raises:
            ConfigError: there is one that is not ours to renew.
        """
        link = self.folder / CURRENT
        if not link.is_symlink():
            for name in (KEY, CERTIFICATE):
                if (self.folder / name).exists():
                    raise ConfigError(
                        f"{self.folder / name} was not made by `rankfleet agent join`: move it away, or leave it to "
                        "whoever made it"
                    )
            return None
        pair = Pair(link.resolve())
        return pair if pair.certificate.exists() and pair.key.exists() else None

    def settle(self) -> None:
        """Ends a switch that was cut off, and deletes pairs that are of no use any more.

        Raises:
            StoreError: it cannot be written.
        """
        current = self.current()
        for pair in self._pairs():
            if pair == current or not pair.certificate.exists():
                continue
            if current is None or _begins_s(pair) > _begins_s(current):
                self._use(pair)
                current = pair
        for pair in self._pairs():
            if pair != current and (pair.certificate.exists() or not pair.key.exists()):
                drop(pair)

    def next(self) -> Pair:
        """A pair whose key has no certificate yet: the one that is under way, or a new one.

        Raises:
            StoreError: it cannot be written.
            EnrolmentError: openssl does not make a key.
        """
        waiting = [pair for pair in self._pairs() if pair.key.exists() and not pair.certificate.exists()]
        if waiting:
            return waiting[0]
        made = Pair(self.folder / PAIRS / secrets.token_hex(8))
        for folder in (self.folder, made.folder.parent, made.folder):
            files.make_folder(folder)
        files.write(made.key, openssl.make_key(), files.PRIVATE)
        return made

    def switch(self, pair: Pair, certificate_pem: bytes) -> None:
        """Puts `pair`, which has got its certificate, in place of the one in use. Done again after a crash, it goes on.

        Raises:
            EnrolmentError: the certificate is for another key.
            StoreError: it cannot be written.
        """
        part = pair.folder / f"{CERTIFICATE}.new"
        files.write(part, certificate_pem)
        if openssl.certificate_fingerprint(part) != openssl.key_fingerprint(pair.key):
            part.unlink()
            raise EnrolmentError("the gateway's certificate is for another key: ask the gateway's operator", 0)
        part.replace(pair.certificate)
        durable.sync_folder(pair.folder)
        self._use(pair)

    def _use(self, pair: Pair) -> None:
        for name in (KEY, CERTIFICATE):
            if not (self.folder / name).is_symlink():
                files.link(self.folder / name, f"{CURRENT}/{name}")
        files.link(self.folder / CURRENT, f"{PAIRS}/{pair.folder.name}")

    def _pairs(self) -> list[Pair]:
        return [Pair(folder.resolve()) for folder in sorted((self.folder / PAIRS).glob("*"))]


def drop(pair: Pair) -> None:
    """Deletes a pair that is not in use."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(pair.folder)


def _begins_s(pair: Pair) -> float:
    return openssl.certificate_dates(pair.certificate)[0]
