"""What a board is given: the Debian package, and examples for fleets of boards (cloud-init, Ansible)."""
