"""Many simulated devices, many rounds, random faults: the real coordinator loses nothing and counts nothing twice."""
