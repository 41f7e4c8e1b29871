"""What a board is given: bundles, the installer, the Debian package, and examples for fleets (cloud-init, Ansible)."""
