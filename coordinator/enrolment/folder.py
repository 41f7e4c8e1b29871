"""The fleet folder: where each file of a gateway lies, and how it is written."""

from __future__ import annotations

import pwd
from dataclasses import dataclass
from pathlib import Path

from edge_agent.wire import durable
from edge_agent.wire.errors import ConfigError, StoreError

PRIVATE_FILE, PUBLIC_FILE = 0o600, 0o644
PRIVATE_FOLDER, PUBLIC_FOLDER = 0o700, 0o755


@dataclass(frozen=True)
class FleetFolder:
    """Everything of one fleet's gateway, below `root`. All of it belongs to the owner of `root`, who also runs it."""

    root: Path

    @property
    def settings(self) -> Path:
        """The fleet's name, hosts and ports (`fleet.FleetSettings`)."""
        return self.root / "fleet.toml"

    @property
    def coordinator_config(self) -> Path:
        """The configuration of the rounds, which is the operator's."""
        return self.root / "coordinator.toml"

    @property
    def ca_certificate(self) -> Path:
        """What boards trust."""
        return self.root / "authority" / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """Whoever has it can make members of the fleet."""
        return self.root / "authority" / "ca.key"

    @property
    def server_certificate(self) -> Path:
        """Of the broker and of the enrolment service."""
        return self.root / "tls" / "server.pem"

    @property
    def server_key(self) -> Path:
        """Of `server_certificate`."""
        return self.root / "tls" / "server.key"

    @property
    def coordinator_certificate(self) -> Path:
        """The coordinator's own, as a client of the broker."""
        return self.root / "tls" / "coordinator.pem"

    @property
    def coordinator_key(self) -> Path:
        """Of `coordinator_certificate`."""
        return self.root / "tls" / "coordinator.key"

    @property
    def rollouts(self) -> Path:
        """Which releases go to which boards (`rollout_store.RolloutStore`)."""
        return self.root / "rollouts.db"

    @property
    def revoked(self) -> Path:
        """The list of revoked certificates, as the broker reads it."""
        return self.root / "tls" / "revoked.pem"

    @property
    def revoked_devices(self) -> Path:
        """Names of devices that are shut out, one a line, as the coordinator reads it."""
        return self.root / "tls" / "revoked-devices"

    @property
    def mosquitto_conf(self) -> Path:
        """The broker's configuration, written anew at every start."""
        return self.root / "mosquitto" / "mosquitto.conf"

    @property
    def acl(self) -> Path:
        """Who may use which topics."""
        return self.root / "mosquitto" / "acl"

    @property
    def broker_data(self) -> Path:
        """Where the broker keeps sessions over its restarts."""
        return self.root / "mosquitto" / "data"

    @property
    def broker_pid(self) -> Path:
        """The broker's process number, while it runs."""
        return self.root / "mosquitto" / "mosquitto.pid"

    @property
    def database(self) -> Path:
        """Tokens, requests and devices."""
        return self.root / "enrolment.db"

    @property
    def admin_tokens(self) -> Path:
        """Hashes of the tokens with which the fleet is administered, one a line."""
        return self.root / "admin-tokens"

    @property
    def releases(self) -> Path:
        """Agent bundles and packs that boards fetch."""
        return self.root / "releases"

    @property
    def rounds_stopped(self) -> Path:
        """There while the operator has stopped the rounds."""
        return self.root / "rounds-stopped"

    @property
    def unit(self) -> Path:
        """The systemd unit of the gateway, to be copied to /etc/systemd/system."""
        return self.root / "systemd" / "rankfleet-coordinator.service"

    @property
    def owner(self) -> str:
        """The user to whom the folder belongs, and who runs the gateway."""
        number = self.root.stat().st_uid
        try:
            return pwd.getpwuid(number).pw_name
        except KeyError as error:
            raise ConfigError(
                f"{self.root} belongs to user {number}, who has no name here: give it another owner"
            ) from error

    def make(self) -> None:
        """Makes the folders that are missing; those that hold secrets are the owner's alone.

        Raises:
            StoreError: they cannot be made.
        """
        private = (self.ca_key.parent, self.server_key.parent, self.acl.parent, self.broker_data)
        public = (self.releases, self.unit.parent)
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=PUBLIC_FOLDER)
            for folder, mode in (
                *((one, PRIVATE_FOLDER) for one in private),
                *((one, PUBLIC_FOLDER) for one in public),
            ):
                folder.mkdir(exist_ok=True)
                folder.chmod(mode)
                durable.give(folder)
        except OSError as error:
            raise StoreError(f"{self.root} cannot be written: {error}; check its owner and permissions") from error

    def write(self, path: Path, data: bytes, mode: int = PRIVATE_FILE) -> None:
        """Replaces `path` as a whole: whoever reads it meanwhile gets the old content or the new.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            durable.write(path, data, mode)
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error}; check the folder's owner and free space") from error


def read(path: Path) -> bytes | None:
    """What `path` holds; None where it does not exist.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; run this as the folder's owner") from error
