from __future__ import annotations

from edge_agent.wire import topics
from edge_agent.wire.link import Connected, Disconnected, Event, Received
from profiling.soak.agenda import Agenda
from profiling.soak.faults import PER_MESSAGE, Fault, Faults
from profiling.soak.network import FaultyLink, Network
from profiling.soak.settings import FLEET

UP, DOWN = topics.up(FLEET, "pi-1"), topics.down(FLEET, "pi-1")


class Net:
    """A network of one device whose messages all meet with one fault, or with none."""

    def __init__(self, fault: Fault | None = None, seed: int = 0) -> None:
        self.agenda, self.faults, self.arrived = Agenda(), Faults(seed, 0.0), list[str]()
        if fault is not None:
            self.faults.of = lambda table: fault  # type: ignore[method-assign, assignment]
        self.network = Network(self.agenda, self.faults, self.arrived.append)
        self.coordinator = self.network.connect_coordinator()
        self.device = self.network.connect("pi-1", b"will")
        assert heard(self.coordinator) == heard(self.device) == [Connected(False)]


def heard(link: FaultyLink) -> list[Event]:
    found = []
    while (event := link.receive(1)) is not None:
        found.append(event)
    return found


def test_without_faults_a_message_arrives_once_and_its_device_is_told() -> None:
    net = Net()
    assert net.device.publish(UP, b"a") and net.coordinator.publish(DOWN, b"b")
    assert heard(net.coordinator) == heard(net.device) == []
    net.agenda.run_until(1)
    assert (heard(net.coordinator), heard(net.device)) == ([Received(UP, b"a")], [Received(DOWN, b"b")])
    assert net.arrived == ["pi-1"]


def test_each_fault_does_to_a_message_what_its_name_says() -> None:
    arrivals = {}
    for fault in PER_MESSAGE:
        net = Net(fault)
        net.device.publish(UP, b"a")
        arrivals[fault] = []
        while net.agenda.next_s < 100:
            net.agenda.run_next()
            arrivals[fault] += [net.agenda.now_s for _ in heard(net.coordinator)]
    assert arrivals[Fault.LOST] == []
    assert len(arrivals[Fault.DUPLICATED]) == 2
    assert len(arrivals[Fault.REORDERED]) == 1 and 0.05 <= arrivals[Fault.REORDERED][0] <= 1
    assert len(arrivals[Fault.DELAYED]) == 1 and 2 <= arrivals[Fault.DELAYED][0] <= 30


def test_a_cut_link_takes_nothing_and_loses_what_is_on_its_way() -> None:
    net = Net()
    net.device.publish(UP, b"lost")
    net.network.broker.cut("pi-1")
    assert not net.device.publish(UP, b"not sent")
    net.agenda.run_until(1)
    assert heard(net.coordinator) == [Received(UP, b"will")]
    assert isinstance(heard(net.device)[0], Disconnected)


def test_what_was_said_is_replayed_as_it_was_or_garbled() -> None:
    net = Net()
    for number in range(100):
        net.device.publish(UP, b"frame %d" % number)
    net.agenda.run_until(1)
    said = {event.payload for event in heard(net.coordinator) if isinstance(event, Received)}
    net.network.replay()
    net.network.garble("pi-1")
    replayed, garbled = (event.payload for event in heard(net.coordinator) if isinstance(event, Received))
    assert replayed in said and garbled not in said
    assert net.faults.counts == {Fault.REPLAYED: 1, Fault.GARBLED: 1}
