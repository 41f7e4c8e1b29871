from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_agent import config, jobs
from edge_agent.predict import DATABASE
from edge_agent.wire.ranks import unpack_mask
from profiling.one_round import find_joined, first_plan, layout_of, make_terms, report_in, run_job
from tests.profiling.test_budget import _agent


def test_a_round_is_trained_beside_the_agent_s_own_state(tmp_path: Path) -> None:
    settings = config.load(_agent(tmp_path))
    joined = find_joined(settings)
    terms = make_terms(settings, joined, joined.known.budget_bytes, tmp_path / DATABASE)
    heard = list[jobs.AnyLine | None]()
    assert run_job(jobs.TrainJob(terms, first_plan(terms), (), joined.known), heard.append) == jobs.TrainResult(1)
    assert None in heard
    assert report_in(tmp_path / DATABASE).steps > 0


def test_a_plan_trains_what_it_is_told(tmp_path: Path) -> None:
    settings = config.load(_agent(tmp_path))
    joined = find_joined(settings)
    terms = make_terms(settings, joined, joined.known.budget_bytes, tmp_path / DATABASE)
    layout = layout_of(terms)
    mask = np.zeros_like(layout.full_mask())
    mask[-1, 0] = True
    plan = first_plan(terms, mask, layout.blocks - 1)
    assert (unpack_mask(plan.trained, layout) == mask).all() and plan.lowest_block == layout.blocks - 1
    assert unpack_mask(first_plan(terms).trained, layout).all()
