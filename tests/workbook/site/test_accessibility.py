"""axe-core finds no serious fault on three pages, light and dark, on a wide screen and on a phone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
CACHE = HERE.parents[2] / "build" / "axe"
RULES = CACHE / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ("index", "notebooks/02_full_vs_last_layer", "ledger")
SCREENS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
SECONDS = 120


@pytest.fixture(scope="module")
def rules() -> str:
    """axe-core's script, installed once into build/axe exactly as the lock says."""
    lock = HERE / "package-lock.json"
    kept = CACHE / lock.name
    if not (RULES.is_file() and kept.is_file() and kept.read_bytes() == lock.read_bytes()):
        if not shutil.which("npm"):
            pytest.skip("npm is not installed, and axe-core comes from its registry")
        CACHE.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", lock.name):
            shutil.copy(HERE / name, CACHE / name)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        try:
            ended = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm reached no registry within {SECONDS} seconds")
        if ended.returncode:
            said = [line for line in ended.stderr.splitlines() if line.strip()]
            pytest.skip(f"npm could not install axe-core: {said[-1] if said else ended.returncode}")
    return RULES.read_text(encoding="utf-8")


def faults(page, rules: str) -> list[str]:
    """What axe-core calls serious or critical: rule, help, and the first element of each."""
    page.evaluate(rules)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{one['id']} ({len(one['nodes'])}x): {one['help']}: {one['nodes'][0]['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "scheme"), SCREENS, ids=lambda value: str(value))
def test_no_serious_fault(address, tab, rules, name, width, scheme):
    page = tab(width, scheme)
    page.goto(f"{address}{name}.html")
    page.wait_for_function("document.readyState === 'complete'")
    assert faults(page, rules) == []


def test_a_serious_fault_is_found(tab, rules):
    page = tab()
    page.set_content(
        '<html lang="en"><title>x</title><main><img src="data:,"><p style="color:#ccc">pale</p></main></html>'
    )
    found = " ".join(faults(page, rules))
    assert "image-alt" in found and "color-contrast" in found
