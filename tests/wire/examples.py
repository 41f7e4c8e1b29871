"""One message of each kind, with every optional part present once."""

from __future__ import annotations

from edge_agent.wire import messages as m

SHA = bytes(range(32))
COST = m.CostTable(
    base_bytes=61_000_000,
    token_bytes=9_000,
    pair_bytes=48,
    supervisor_bytes=30_000_000,
    file_bytes=45_000_000,
    expand_us=1500.0,
    speeds=(m.Speed(micro_batch=1, forward_us=(120.0, 30.5, 0.25), backward_us=(240.0, 61.0, 0.5)),),
    threads=2,
)
CAPABILITY = m.Capability(
    budget_bytes=200 * 2**20, total_memory_bytes=512 * 2**20, link_bytes_per_s=1_000_000, cost=COST
)
TRAINING = m.Training(
    batch_size=8,
    local_steps=0,
    lr=0.001,
    lr_e=0.01,
    lr_head=0.002,
    weight_decay=0.01,
    epsilon=1e-8,
    scale=1.0,
    max_tokens=64,
    calibration=0.5,
    importance="magnitude",
    quantisation="int8",
)
PHASE = m.Phase(
    name="train",
    wall_s=12.5,
    cpu_s=20.25,
    rss_bytes=110_000_000,
    anonymous_bytes=60_000_000,
    pss_bytes=90_000_000,
    uss_bytes=None,
    high_water_bytes=120_000_000,
)
REPORT = m.RoundReport(
    examples=300,
    steps=38,
    loss=0.75,
    holdout_correct=20,
    holdout_total=33,
    micro_batch=2,
    depth=4,
    kept_blocks=1,
    step_downs=2,
    sequence_tokens=64,
    ranks=96,
    predicted_bytes=150_000_000,
    peak_rss_bytes=160_000_000,
    peak_anonymous_bytes=110_000_000,
    mapped_bytes=23_000_000,
    predicted_step_s=0.375,
    step_s=0.5,
    bytes_up=300_000,
    bytes_down=400_000,
    pack_bytes_down=24_000_000,
    phases=(PHASE,),
)
DELTA = m.ObjectRef("delta", SHA, 40_000)

FROM_AGENT: tuple[m.Message, ...] = (
    m.Hello(agent_version="0.1.0", pack=None, version=0),
    m.Ready(pack=SHA, examples=300, holdout=33, longest_tokens=41, version=2, capability=CAPABILITY),
    m.Progress(round=1, phase="train", step=3, steps=38, loss=1.5, temperature_c=61.5),
    m.Declined(round=1, reason="nothing fits", smallest_budget_bytes=90_000_000),
    m.Offer(round=1, update=m.ObjectRef("update", SHA, 70_000), report=REPORT),
    m.Finished(version=9, accuracy=0.9375, bytes_up=1, bytes_down=2, pack_bytes_down=3),
    m.Offline(reason="the connection was lost"),
)
FROM_COORDINATOR: tuple[m.Message, ...] = (
    m.Welcome(
        fleet="f",
        run=bytes(range(16)),
        seed=7,
        slots=8,
        classes=("ja", "nein"),
        pack=m.ObjectRef("manifest", SHA, 900),
        training=TRAINING,
    ),
    m.Outdated(boot=4),
    m.Plan(
        round=1,
        rounds=8,
        version=3,
        deltas=(DELTA,),
        state_sha256=SHA,
        work="train",
        trained=b"\xff\x0f",
        budget_ranks=200,
        lowest_block=2,
        deadline_s=120.0,
        late_rounds=2,
    ),
    m.Acknowledged(round=1, sha256=SHA),
    m.Rejected(round=None, reason="the update has NaN", final=False),
    m.Final(version=9, deltas=(DELTA,), state_sha256=SHA),
    m.Leave(reason="the run is over"),
)
BOTH_WAYS: tuple[m.Message, ...] = (
    m.Want(sha256=SHA, chunk_bytes=65_536, indices=(0, 1, 300)),
    m.Chunk(sha256=SHA, offset_bytes=300 * 65_536, data=b"\x00\x01\xfe\xff"),
    m.Missing(sha256=SHA),
)
ALL = FROM_AGENT + FROM_COORDINATOR + BOTH_WAYS
