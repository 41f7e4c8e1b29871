"""What a soak is run with: its fleet, the coordinator's configuration, and a pack that is only looked at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from coordinator.config import (
    CoordinatorConfig,
    HeadSettings,
    ObjectiveSettings,
    RankSettings,
    RoundSettings,
    TrainingSettings,
)
from edge_agent.wire import messages as m
from edge_agent.wire import pack

FLEET = "soak"
CLASSES = ("one", "two", "three")
SLOTS = 6
BLOCKS, D_MODEL, MAX_TOKENS, VOCABULARY = 2, 32, 16, 100
DEADLINE_S = 60.0
GRACE_S = 15.0

_COST = m.CostTable(
    base_bytes=60_000_000,
    token_bytes=9_000,
    pair_bytes=48,
    supervisor_bytes=30_000_000,
    file_bytes=45_000_000,
    expand_us=1500.0,
    speeds=(m.Speed(micro_batch=1, forward_us=(120.0, 30.0, 0.25), backward_us=(240.0, 60.0, 0.5)),),
    threads=2,
)
_LINKS_BYTES_PER_S = (1_000_000, 100_000, 60)
"""The slowest carries only a part of the ranks in time, so devices train different ones."""


@dataclass(frozen=True)
class Settings:
    """One soak. `fault_rate` multiplies how often everything goes wrong."""

    devices: int = 200
    rounds: int = 500
    seed: int = 0
    fault_rate: float = 1.0

    @property
    def check_every(self) -> int:
        """In how many rounds one has its average computed a second time."""
        return max(1, self.rounds // 50)

    @property
    def stops(self) -> tuple[int, int]:
        """The rounds between which the coordinator is stopped again and again.

        One process serves the rounds before, and one those behind: so memory is compared of processes that are warm.
        """
        return self.rounds // 5, self.rounds * 3 // 5

    @property
    def rounds_between_stops(self) -> tuple[int, int]:
        """How many rounds the coordinator lives there, at least and at most."""
        return max(1, self.rounds // 100), max(2, self.rounds // 45)


def coordinator_config(settings: Settings, folder: Path) -> CoordinatorConfig:
    """The coordinator's configuration; its run lies in `folder`, and the pack of `write_pack` beside it."""
    return CoordinatorConfig(
        fleet=FLEET,
        pack=folder / "pack",
        classes=CLASSES,
        run_dir=folder / "run",
        seed=settings.seed,
        round=RoundSettings(
            rounds=settings.rounds,
            expected=settings.devices,
            gather_s=60.0,
            quorum=max(1, settings.devices // 2),
            deadline_s=DEADLINE_S,
            grace_s=GRACE_S,
        ),
        ranks=RankSettings(initial=SLOTS, target=2.0, warmup_rounds=1, final_rounds=1),
        objectives=ObjectiveSettings(round_s=DEADLINE_S / 2, devices=settings.devices, update_age_s=300.0, topic=True),
        head=HeadSettings("seed"),
        training=TrainingSettings(max_tokens=MAX_TOKENS, quantisation="int8"),
    )


def capability(index: int) -> m.Capability:
    """What the device number `index` says of itself."""
    return m.Capability(400_000_000, 512_000_000, _LINKS_BYTES_PER_S[index % len(_LINKS_BYTES_PER_S)], _COST)


def write_pack(folder: Path) -> pack.Manifest:
    """A pack with the shapes of a tiny model, and without one: the coordinator looks at shapes, devices only fetch."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {name: name.encode() * 100 for name in sorted(pack.FILES)}
    files = {name: pack.FileEntry(hashlib.sha256(body).hexdigest(), len(body)) for name, body in contents.items()}
    locals_ = ("output",)
    modules = tuple(
        pack.ModuleEntry(f"block.{block}.{local}", local, block, D_MODEL, D_MODEL)
        for block in range(BLOCKS)
        for local in locals_
    )
    size_bytes = 4 * D_MODEL * D_MODEL
    tensors = {f"{one.name}.weight": pack.TensorEntry("float32", (D_MODEL, D_MODEL), 0, size_bytes) for one in modules}
    tensors["embedding.word"] = pack.TensorEntry("float32", (VOCABULARY, D_MODEL), 0, 4 * VOCABULARY * D_MODEL)
    manifest = pack.Manifest(
        format=pack.FORMAT,
        model="soak",
        architecture="soak",
        weights="fp32",
        d_model=D_MODEL,
        heads=2,
        blocks=BLOCKS,
        vocabulary=VOCABULARY,
        max_tokens=MAX_TOKENS,
        pad_token_id=0,
        pooling="mean",
        norm_eps=1e-5,
        causal=False,
        modules=modules,
        block_weights=tuple(f"{local}.weight" for local in locals_),
        tensors=tensors,
        files=files,
        source_sha256=hashlib.sha256(b"soak").hexdigest(),
        mapped_working_set_bytes=size_bytes,
        bytes_per_rank=pack.bytes_per_rank(modules),
    )
    for name, body in contents.items():
        (folder / name).write_bytes(body)
    (folder / pack.MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return manifest
