"""Files and links are replaced as a whole."""

from __future__ import annotations

from pathlib import Path

from edge_agent.releases import durable


def test_a_file_is_replaced_with_its_mode_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (tmp_path / "file.new").write_text("half of an earlier try")
    for data in (b"first", b"second"):
        durable.write(path, data, 0o600)
        assert path.read_bytes() == data and path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_link_is_switched_and_never_followed(tmp_path: Path) -> None:
    first, second, link = tmp_path / "1", tmp_path / "2", tmp_path / "link"
    first.mkdir()
    second.mkdir()
    durable.link(link, Path("1"))
    durable.link(link, Path("2"))
    assert link.resolve() == second
    assert not list(first.iterdir()) and not list(second.iterdir())


def test_removing_takes_the_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    (folder / "below").mkdir(parents=True)
    link.symlink_to(folder)
    durable.remove_tree(link)
    assert folder.is_dir() and not link.is_symlink()
    link.symlink_to(tmp_path / "nowhere")
    durable.remove(link)
    durable.remove(link)
    assert not link.is_symlink()
    durable.remove_tree(folder)
    assert not folder.exists()
    durable.remove_tree(folder)
