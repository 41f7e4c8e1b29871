"""The agent as a service of systemd: what it tells the service manager, and when it is to be restarted."""
