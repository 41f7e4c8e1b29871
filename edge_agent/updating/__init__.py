"""Over-the-air updates, the board's side: asks the gateway for orders, follows one, and says how that went.

Run by a timer as root, beside the agent. `updater` is the sequence; whatever kills it, the next run goes on from what
is in the spool folder (`spool`) and what `edge_agent.releases` brings to an end.
"""
