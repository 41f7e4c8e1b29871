"""How a board becomes a member of a fleet, and stays one: its key, its certificate, and the gateway that it asks."""
