"""The coordinator that runs on a gateway: rounds, allocation, arbitration, aggregation."""
