from __future__ import annotations

import threading
from pathlib import Path

from cryptography import x509

from coordinator.enrolment.desk import Withdrawn
from coordinator.enrolment.withdrawal import FolderBroker
from tests.coordinator.enrolment.gates import utc_now
from tests.gateways import founded


def test_both_lists_are_written_though_no_broker_runs(tmp_path: Path) -> None:
    folder, made = founded(tmp_path)
    broker = FolderBroker(folder, made.authority, utc_now)
    said = broker.cut("pi-1", lambda: Withdrawn(frozenset({7}), frozenset({"pi-1"})))
    assert "does not run" in said
    written = x509.load_pem_x509_crl(folder.revoked.read_bytes())
    assert [one.serial_number for one in written] == [7]
    assert folder.revoked_devices.read_text() == "pi-1\n"


def test_of_two_that_write_the_lists_the_one_that_decided_later_wins(tmp_path: Path) -> None:
    """The second asks what is withdrawn only when the first has written."""
    folder, made = founded(tmp_path)
    withdrawn, entered = [frozenset({1})], threading.Event()

    def slowly() -> Withdrawn:
        entered.set()
        found = withdrawn[0]
        second.start()
        second.join(0.3)
        assert second.is_alive(), "it waits"
        return Withdrawn(found, frozenset())

    broker = FolderBroker(folder, made.authority, utc_now)

    def decide() -> None:
        withdrawn[0] = frozenset({1, 2})
        broker.reload(lambda: Withdrawn(withdrawn[0], frozenset()))

    second = threading.Thread(target=decide)
    broker.reload(slowly)
    second.join()
    written = x509.load_pem_x509_crl(folder.revoked.read_bytes())
    assert sorted(one.serial_number for one in written) == [1, 2]
