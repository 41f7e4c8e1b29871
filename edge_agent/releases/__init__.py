"""Releases of the agent on a board: install, upgrade, go back, uninstall. Standard library only.

So a board's bare Python can run it out of the wheel of a bundle: `PYTHONPATH=rankfleet-*.whl python3 -m
edge_agent.releases --help`. Whoever changes releases from Python, as updates over the air do:

::

    board = Board()                                                         # layout
    with only_one(board.home, "installer"):                                 # edge_agent.wire.folder_lock
        changer = Changer(board, service_manager(board))                    # change, service_manager
        outcome = changer.install(Path("rankfleet-agent-0.2.0-aarch64-cp311.tar"))

`outcome.kind` is `installed` or `returned` (to the release before, with `outcome.reason`); a ReleaseError means that
nothing was changed, unless it says that neither release starts. `install` waits until the agent is in no round. A
process that dies in between leaves a whole release current; `Changer.recover` brings the change to its end.
"""
