"""Everything around a fleet: model packs, fetching, the demo, the command line."""
