"""The main job, end to end, on this machine: a coordinator and its agents as processes, on real data."""
