"""workbook.site.formulas: MathML with what was typed as its label."""

from __future__ import annotations

import pytest

from workbook.site.formulas import formula


def test_a_formula_is_mathml_with_a_label():
    made = formula(r"\frac{\alpha}{r} B A", "inline")
    assert made.startswith("<math ") and "<mfrac>" in made
    assert 'alttext="\\frac{\\alpha}{r} B A"' in made
    assert 'display="block"' in formula("x", "block")


def test_a_label_cannot_break_out():
    assert 'alttext="a &lt; b"' in formula("a < b", "inline")


def test_a_formula_that_cannot_be_read_is_named():
    with pytest.raises(ValueError, match="a\\^b\\^c"):
        formula("a^b^c", "inline")
