"""What a learner does in JupyterLab: opens a lesson, runs it, types an answer, moves a slider."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import Locator, Page

PATIENCE = 600_000  # milliseconds: a machine at other work is slow, and only a fault waits so long
# What the page says: a star stands before a cell that waits, and the bar below names the kernel's state.
STAR = "[...document.querySelectorAll('.jp-InputPrompt')].some(each => each.textContent.includes('*'))"
READY = "/\\| Idle/.test(document.querySelector('#jp-main-statusbar')?.textContent ?? '')"
IDLE = f"() => {READY} && !{STAR}"
SHOWN = f"cells => {READY} && document.querySelectorAll('.jp-Notebook .jp-Cell').length >= cells"
WATCH = f"""() => {{
    window.sawACellWait = false;
    const look = () => {{ window.sawACellWait ||= {STAR}; }};
    new MutationObserver(look).observe(document.body, {{subtree: true, childList: true, characterData: true}});
}}"""
ERRORS = {
    "a dialogue": ".jp-Dialog",
    "an error message": ".Toastify__toast--error",
    "a cell that raised": ".jp-RenderedText:has-text('Traceback (most recent call last)')",
    "a widget that is not shown": ".jupyter-widgets-error, .lm-Widget:text-is('Error displaying widget')",
    "a formula that cannot be read": "mjx-merror",
}


class Learner:
    """Somebody at a browser with one lesson open at a time."""

    def __init__(self, page: Page, address: str, folder: Path):
        self.page, self.folder = page, folder
        self.token = urlsplit(address).query
        self.root = f"{urlsplit(address).scheme}://{urlsplit(address).netloc}"
        self.faults: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, notebook: str) -> None:
        """Open a notebook of the folder, and wait until all of it is shown and its kernel is ready."""
        cells = json.loads((self.folder / "notebooks" / notebook).read_text(encoding="utf-8"))["cells"]
        self.page.goto(f"{self.root}/lab/tree/notebooks/{notebook}?{self.token}&reset")
        self.page.wait_for_function(SHOWN, arg=len(cells))

    def wait_until_idle(self) -> None:
        """Wait until no cell is waiting and the kernel has nothing to do."""
        self.page.wait_for_function(IDLE)

    def choose(self, *path: str) -> None:
        """Choose from the menus: `choose("Run", "Run All Cells")`."""
        menus = self.page.locator(".lm-MenuBar-itemLabel")
        menus.get_by_text(path[0], exact=True).click()
        self.page.locator(".lm-Menu-itemLabel").get_by_text(re.compile(rf"^{re.escape(path[1])}")).first.click()

    def run_all(self) -> None:
        """Run > Run All Cells, to its end."""
        self.page.evaluate(WATCH)
        self.choose("Run", "Run All Cells")
        self._see_the_end()

    def restart_and_run_all(self) -> None:
        """Kernel > Restart Kernel and Run All Cells, confirmed, to its end."""
        self.page.evaluate(WATCH)
        self.choose("Kernel", "Restart Kernel and Run All Cells")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self._see_the_end()

    def _see_the_end(self) -> None:
        self.page.wait_for_function("() => window.sawACellWait")
        self.wait_until_idle()

    def cell(self, text: str) -> Locator:
        """The code cell that holds this text."""
        found = self.page.locator(".jp-CodeCell", has=self.page.locator(".cm-content", has_text=text))
        return found.first

    def answer(self, cell: Locator, code: str) -> str:
        """Replace a cell's code, run it with Shift+Enter, and return what it says."""
        editor = cell.locator(".cm-content")
        editor.click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(code)
        before = cell.locator(".jp-InputPrompt").inner_text()
        self.page.keyboard.press("Shift+Enter")
        prompt = cell.locator(".jp-InputPrompt")
        self.page.wait_for_function(
            "([prompt, before]) => prompt.textContent !== before && !prompt.textContent.includes('*')",
            arg=[prompt.element_handle(), before],
        )
        return cell.locator(".jp-OutputArea-output").first.inner_text()

    def executed(self) -> list[int | None]:
        """The number before each code cell, None for one that did not run."""
        prompts = self.page.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()
        return [int(found.group()) if (found := re.search(r"\d+", text)) else None for text in prompts]

    def move(self, output: Locator, key: str = "ArrowRight") -> float:
        """Press a key on the first slider of an output; return the share of its figure's pixels that change."""
        handle, picture = output.locator(".noUi-handle").first, output.locator(".widget-html img").first
        picture.scroll_into_view_if_needed()
        before, source = pixels(picture), picture.get_attribute("src")
        handle.focus()
        self.page.keyboard.press(key)
        self.page.wait_for_function(
            "([output, before]) => { const image = output.querySelector('.widget-html img');"
            " return image && image.src !== before && image.complete; }",
            arg=[output.element_handle(), source],
        )
        after = pixels(output.locator(".widget-html img").first)
        return changed(before, after)

    def trouble(self) -> list[str]:
        """What a newcomer should not see, in words."""
        seen = [name for name, selector in ERRORS.items() if self.page.locator(selector).count()]
        return seen + self.faults + [f"a request to {url}" for url in self.requests if self._elsewhere(url)]

    def _elsewhere(self, url: str) -> bool:
        return url.startswith(("http", "ws")) and urlsplit(url).netloc != urlsplit(self.root).netloc

    def leave(self) -> None:
        """Close the page and end its kernels."""
        for session in self.page.request.get(f"{self.root}/api/sessions?{self.token}").json():
            self.page.request.delete(
                f"{self.root}/api/sessions/{session['id']}?{self.token}",
                headers={"Authorization": self.token.replace("=", " ")},
            )
        self.page.close()


def pixels(picture: Locator) -> np.ndarray:
    """What a figure looks like on the screen: (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("RGB"), dtype=int)


def changed(before: np.ndarray, after: np.ndarray) -> float:
    """The share of pixels that differ plainly; 1 when the pictures have different sizes."""
    if before.shape != after.shape:
        return 1.0
    return float((np.abs(before - after).max(axis=-1) > 32).mean())
