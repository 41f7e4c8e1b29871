"""FOLDER on the command line: the fleet in it, its installer, and whom root becomes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import fleet
from edge_agent.wire.errors import ConfigError
from tests.gateways import FLEET, founded

NOBODY = 65534


def test_the_fleets_installer_is_the_real_one_with_its_values(tmp_path: Path) -> None:
    founded(tmp_path / "site", hosts=("gw.local",))
    found = fleet.read(tmp_path / "site")
    script = found.installer().decode()
    assert script.startswith("#!/bin/sh\n# Installs the rankfleet agent on a board")
    assert "GATEWAY='https://gw.local:8443'\n" in script
    assert f"FLEET='{FLEET}'\n" in script
    assert found.folder.ca_certificate.read_text() in script
    assert found.now().tzinfo is not None


def test_a_folder_that_is_no_fleets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no fleet"):
        fleet.opened(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: only root may become another user")
def test_root_becomes_the_folders_owner_to_change_it(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path / "site")
    for path in (folder.root, *folder.root.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    for act, user in (("opened", NOBODY), ("read", 0)):
        code = f"from pathlib import Path; from deploy.cli import fleet; fleet.{act}(Path({str(folder.root)!r})); "
        code += "import os; print(os.geteuid())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == f"{user}\n"
