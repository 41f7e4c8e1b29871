"""Recorded lines as an agent leaves them."""

from __future__ import annotations

import msgspec

from edge_agent.round_log import DeviceEntry, PhaseEntry

DATE = "2026-11-26T10:00:00.000+00:00"
DEVICE_ENTRY = DeviceEntry(
    date=DATE,
    device="pi-1",
    fleet="depot",
    model="Raspberry Pi 5 Model B Rev 1.0",
    system="Debian GNU/Linux 12 (bookworm)",
    kernel="6.6.51+rpt-rpi-2712",
    machine="aarch64",
    governor="ondemand",
    power_mode=None,
    core_volts=0.8749,
    cores=4,
    memory_bytes=8 * 2**30,
    budget_bytes=200_000_000,
    threads=2,
    engine="onnx",
    products="float32",
    version="0.1.0",
    commit=None,
    sample_s=1.0,
    power_source="pmic",
)
_PHASE = PhaseEntry(
    date=DATE,
    run="00" * 16,
    round=1,
    phase="train",
    wall_s=10.0,
    supervisor_cpu_s=0.2,
    trainer_cpu_s=9.5,
    peak_rss_bytes=150_000_000,
    peak_anonymous_bytes=100_000_000,
    file_bytes=50_000_000,
    pss_bytes=120_000_000,
    uss_bytes=110_000_000,
    available_bytes=7_000_000_000,
    group_bytes=140_000_000,
    group_peak_bytes=160_000_000,
    cpu_stalled_s=0.1,
    memory_stalled_s=0.0,
    io_stalled_s=0.0,
    minor_faults=1000,
    major_faults=3,
    read_bytes=4096,
    written_bytes=8192,
    bytes_up=1000,
    bytes_down=500,
    temperature_c=61.0,
    clock_hz=2_400_000_000,
    gpu_clock_hz=None,
    slowed=(),
    energy_j=60.0,
    power_w=6.0,
    recording_cpu_s=0.003,
)


def phase_entry(**changes: object) -> PhaseEntry:
    """A phase of training, changed so."""
    return msgspec.structs.replace(_PHASE, **changes)
