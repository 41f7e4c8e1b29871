"""The Ansible role, run by Debian's own Ansible in a Debian tree: what it refuses, changes, and leaves alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.board import deb
from deploy.board.own_wheel import CLONE
from tests.bundle_gateway import script
from tests.debian_tree import Tree, fresh_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ANSIBLE = CLONE / "deploy" / "board" / "ansible"
GATEWAY = {"rankfleet_agent_gateway_url": "https://192.0.2.1:8443", "rankfleet_agent_installer_sha256": "0" * 64}
ONE_PART = """\
- hosts: all
  gather_facts: true
  tasks:
    - ansible.builtin.include_role:
        name: rankfleet_agent
        tasks_from: {part}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = fresh_tree(tmp_path / "tree", "ansible-core", "ca-certificates", "curl", "python3-apt")
    shutil.copytree(ANSIBLE, tree.root / "root/ansible")
    (tree.root / "root/ansible/here.yml").write_text(
        "boards:\n  hosts:\n    board-01:\n      ansible_connection: local\n"
        "      ansible_python_interpreter: /usr/bin/python3\n"
    )
    firmware = tree.root / "boot/firmware"
    firmware.mkdir()
    (firmware / "cmdline.txt").write_text("console=tty1 rootwait\n")
    return tree


def _play(tree: Tree, variables: dict[str, object], *options: str, playbook: str = "site.yml") -> tuple[int, str]:
    command = f'cd /root/ansible && exec ansible-playbook -i here.yml {playbook} "$@"'
    done = tree.run("sh", "-c", command, "sh", "--extra-vars", json.dumps(variables), *options, check=False)
    return done.returncode, done.stdout


def _one_part(tree: Tree, part: str, variables: dict[str, object]) -> tuple[int, str]:
    (tree.root / "root/ansible/part.yml").write_text(ONE_PART.format(part=part))
    return _play(tree, variables, playbook="part.yml")


def _changed(said: str) -> int:
    recap = next(line for line in said.splitlines() if line.startswith("board-01 "))
    return int(recap.partition("changed=")[2].split()[0])


def test_what_would_be_done_can_be_looked_at(tree: Tree) -> None:
    status, said = _play(tree, GATEWAY, "--check")
    assert status == 0 and "nothing is installed (check mode)" in said, said
    assert not (tree.root / "opt/rankfleet").exists()
    assert (tree.root / "boot/firmware/cmdline.txt").read_text() == "console=tty1 rootwait\n"


@pytest.mark.parametrize(
    "wrong",
    [
        {"rankfleet_agent_gateway_url": ""},
        {"rankfleet_agent_bundle_dir": "/media/stick"},
        {"rankfleet_agent_installer_sha256": "abc"},
        {"rankfleet_agent_device": "a/b"},
        {"rankfleet_agent_settings": {"fleet": "another"}},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_variables_that_do_not_fit_are_refused_before_anything_is_changed(tree: Tree, wrong: dict[str, object]) -> None:
    status, said = _play(tree, {**GATEWAY, **wrong})
    assert status != 0 and "Expected either rankfleet_agent_bundle_dir" in said, said
    assert _changed(said) == 0


def test_a_system_that_is_too_old_is_refused_by_name(tree: Tree) -> None:
    release = tree.root / "usr/lib/os-release"
    release.write_text(release.read_text().replace("12", "11"))
    (tree.root / "etc/debian_version").write_text("11.9\n")
    status, said = _play(tree, GATEWAY)
    assert status != 0 and "Debian 11" in said and "64-bit Raspberry Pi OS" in said, said


def test_a_board_with_the_debian_package_is_left_to_apt(tree: Tree) -> None:
    (tree.root / "usr/lib/rankfleet-agent").mkdir()
    status, said = _play(tree, GATEWAY)
    assert status != 0 and "which apt keeps" in said and _changed(said) == 0, said


def test_the_memory_control_group_is_turned_on_once(tree: Tree) -> None:
    for changed in (1, 0):
        status, said = _one_part(tree, "board.yml", GATEWAY)
        assert status == 0 and _changed(said) == changed, said
        line = (tree.root / "boot/firmware/cmdline.txt").read_text()
        assert line == "console=tty1 rootwait cgroup_enable=memory cgroup_memory=1\n"


def test_settings_are_placed_above_the_tables_once_and_changed_in_place(tree: Tree) -> None:
    config = tree.root / "etc/rankfleet/agent.toml"
    config.parent.mkdir()
    example = deb.example()
    config.write_text(example)
    for threads, changed in ((2, 1), (2, 0), (3, 1)):
        settings = {"rankfleet_agent_settings": {"threads": threads, "products": "int8"}}
        status, said = _one_part(tree, "settings.yml", settings)
        assert status == 0 and _changed(said) == changed, said
        lines = config.read_text().splitlines()
        own = [line for line in lines if line not in example.splitlines()]
        assert sorted(own) == ['products = "int8"', f"threads = {threads}"]
        assert max(map(lines.index, own)) < lines.index("[broker]")


def test_the_role_installs_from_a_bundle_and_changes_nothing_when_it_runs_again(tree: Tree) -> None:
    bundle = pytest.importorskip("deploy.board.bundle", reason="NOT TESTED: this version makes no bundles")
    wheels = pytest.importorskip("deploy.board.wheels")
    certificate = tree.root / "root/ca.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=fleet", "-keyout", "/dev/null",
         "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    installer = script("https://192.0.2.1:8443", certificate.read_bytes()).encode()
    bundle.make(bundle.Order(wheels.Target("x86_64", "3.11"), installer=installer), tree.root / "root/stick")
    variables = {
        "rankfleet_agent_bundle_dir": "/root/stick",
        "rankfleet_agent_budget_mib": 256,
        "rankfleet_agent_settings": {"threads": 2},
    }
    status, said = _play(tree, variables)
    assert status == 0 and _changed(said) > 0, said
    assert tree.run("/opt/rankfleet/current/bin/rankfleet", "--version").stdout.startswith("rankfleet ")
    config = (tree.root / "etc/rankfleet/agent.toml").read_text()
    assert 'device = "board-01"' in config and "threads = 2" in config and str(256 * 2**20) in config
    assert not (tree.root / "root/rankfleet-install").exists()
    status, said = _play(tree, variables)
    assert status == 0 and _changed(said) == 0, said
