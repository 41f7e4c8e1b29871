"""Runs the command line when Python is given this folder: its own modules come first, the current folder's never."""

import sys

from deploy.cli.main import main

sys.exit(main())
