"""Small bundles: a rankfleet of a few lines with the real pip, for tests of releases that need no engine."""

from __future__ import annotations

import functools
import hashlib
import platform
import shutil
import sys
import tempfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from deploy.board.bundle import write_tar
from deploy.board.own_wheel import repack
from edge_agent.releases import environment
from edge_agent.releases.bundle import Manifest, wheel

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
WORKS = "print('works')"
FAILS = "raise SystemExit('the processor is too old')"
_MAIN = "import sys\n\ndef main():\n    print({version!r}, *sys.argv[1:])\n"


def small_bundle(
    folder: Path, version: str, self_test: str = WORKS, machine: str = platform.machine(), python: str = PYTHON
) -> Path:
    """A bundle in `folder` of a rankfleet with the given self-test, whose command prints its version and arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        wheels = [_rankfleet(Path(work), version, self_test), pip_wheel()]
        names = {f"wheels/{path.name}": path for path in wheels}
        digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in names.items()}
        manifest = Manifest(version, machine, python, digests)
        write_tar(folder / manifest.name, manifest, names)
    return folder / manifest.name


@functools.cache
def pip_wheel() -> Path:
    """The wheel of the pip that is installed here."""
    return repack(distribution("pip"), Path(tempfile.mkdtemp(prefix="rankfleet-tests-")))


def _rankfleet(folder: Path, version: str, self_test: str) -> Path:
    info = f"rankfleet-{version}.dist-info"
    files = {
        "edge_agent/__init__.py": "",
        "edge_agent/self_test.py": self_test,
        "edge_agent/main.py": _MAIN.format(version=version),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: rankfleet\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nrankfleet = edge_agent.main:main\n",
    }
    path = folder / f"rankfleet-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
        record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), record)
    return path


_environments: dict[str, Path] = {}


def make_once(folder: Path, unpacked: Path, version: str) -> None:
    """Does what `environment.make` does, which it calls once for each bundle: its result is copied from then on.

    A virtual environment works where it is copied to, except for its scripts, which go on to run the one they were
    copied from.
    """
    digest = hashlib.sha256(wheel(unpacked, "rankfleet").read_bytes()).hexdigest()
    if digest not in _environments:
        made = Path(tempfile.mkdtemp(prefix="rankfleet-tests-")) / "environment"
        environment.make(made, unpacked, version)
        _environments[digest] = made
    shutil.copytree(_environments[digest], folder, symlinks=True)
