"""What a board is given: bundles and the installer."""
