"""What lies where in the folders that runs leave behind.

::

    RUN/coordinator.db                        a coordinator's run folder
    RUN/merged/model.onnx, tokenizer.json     the merged model
    RUN/agents/<device>/state/agent.db        a demo's agents: the state folder of each
"""

from __future__ import annotations

from pathlib import Path

from edge_agent.wire.errors import ConfigError

COORDINATOR_DB = "coordinator.db"
AGENT_DB = "agent.db"
MERGED_MODEL = Path("merged") / "model.onnx"


def is_run(folder: Path) -> bool:
    """Whether a coordinator keeps its run in `folder`."""
    return (folder / COORDINATOR_DB).is_file()


def is_agent(folder: Path) -> bool:
    """Whether `folder` is an agent's state folder."""
    return (folder / AGENT_DB).is_file()


def agent_states(run_dir: Path) -> dict[str, Path]:
    """State folders of a demo's agents, by device."""
    return {path.parent.parent.name: path.parent for path in sorted(run_dir.glob(f"agents/*/state/{AGENT_DB}"))}


def neither(folder: Path) -> ConfigError:
    """What to say of a folder that is neither a run folder nor a state folder."""
    return ConfigError(
        f"{folder} is no folder of a run: it holds neither {COORDINATOR_DB} (a coordinator's run_dir, or the folder "
        f"of `rankfleet demo`) nor {AGENT_DB} (an agent's state_dir)"
    )
