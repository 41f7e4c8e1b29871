"""`python3 -m edge_agent.releases`."""

from __future__ import annotations

import sys

from edge_agent.releases.options import main

sys.exit(main())
