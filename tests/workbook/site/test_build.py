"""workbook.site.build: the whole way, and what it refuses."""

from __future__ import annotations

import nbformat
import pytest
from click.testing import CliRunner

from helpers.runtime import UserError
from workbook.cli import main
from workbook.site import build as building
from workbook.site.build import build
from workbook.site.stage import stage


def executed(course, name: str, *cells: str) -> None:
    """Add a lesson to the course as if its cells had run."""
    path = course.add(name, *cells)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = 1
    nbformat.write(notebook, path)


def test_without_its_packages_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(building.PARTS, "no_such_theme", "no-such-theme")
    with pytest.raises(UserError, match=r"no-such-theme is not installed: pip install"):
        build(tmp_path)


def test_without_notebooks_it_says_how_to_build_them(tmp_path):
    with pytest.raises(UserError, match="make notebooks"):
        stage(tmp_path / "site", notebooks=tmp_path)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "thesis.md").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        build(tmp_path)
    assert (tmp_path / "source" / "thesis.md").read_text() == "mine"


def test_lessons_are_taken_as_they_are_found(course, tmp_path):
    for name in ("00_first", "12_course_conclusion"):
        executed(course, name)
    lessons = stage(tmp_path / "site", notebooks=course.folder)
    assert [lesson.number for lesson in lessons] == ["00", "12"]
    assert (
        "12 Is 12_course_conclusion well? <notebooks/12_course_conclusion>" in (tmp_path / "site/index.md").read_text()
    )


def test_the_command_is_there():
    result = CliRunner().invoke(main, ["site", "--help"])
    assert result.exit_code == 0 and "nothing is executed" in " ".join(result.output.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [("# A\n\n$a^b^c$", r"the formula 'a\^b\^c' cannot be read"), ("# A\n\n[far](#no-such-part)", "no-such-part")],
)
def test_a_warning_is_an_error(course, tmp_path, text, said):
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "__init__.py").write_text('"""What lessons share."""\n')
    executed(course, "00_first", text)
    with pytest.raises(UserError, match=said):
        build(tmp_path / "site", notebooks=course.folder, package=tmp_path / "helpers")
