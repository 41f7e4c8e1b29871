"""Models and data sets out of packages, by pinned checksums: `catalogue` is the table, `fetch` the mechanism."""
