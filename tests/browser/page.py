"""A browser as the tests use it."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

Found = TypeVar("Found")
_WITHIN = 30.0


class Browser:
    """One page of a browser, at a server."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver = driver
        self.address = address
        self._expected = ["/events/.* status of 503"]  # pages ask then
        driver.get_log("browser")  # what went before

    def look_like(self, *, width: int = 1280, dark: bool = False) -> None:
        """Have a screen of that width, light or dark."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def enable_scripts(self, are_enabled: bool) -> None:
        """Let pages run scripts, or not."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not are_enabled})

    @contextmanager
    def with_script(self, script: str) -> Iterator[None]:
        """Have each page run that before its own script, within the block."""
        added = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)

    @contextmanager
    def tabs(self, paths: Sequence[str]) -> Iterator[list[str]]:
        """Open a tab for each path, and give their handles; the last is shown. In the end the first one is left."""
        first, opened = self.driver.current_window_handle, list[str]()
        try:
            for path in paths:
                self.driver.switch_to.new_window("tab")
                opened.append(self.driver.current_window_handle)
                self.go(path)
            yield opened
        finally:
            for each in opened:
                self.driver.switch_to.window(each)
                self.driver.close()
            self.driver.switch_to.window(first)

    def show(self, tab: str) -> None:
        """Show another tab."""
        self.driver.switch_to.window(tab)

    def go(self, path: str) -> None:
        """Load a page."""
        self.driver.get(f"{self.address}{path}")

    @property
    def path(self) -> str:
        """Where the page is that is shown, without its query."""
        found: str = self.driver.current_url.removeprefix(self.address).partition("?")[0]
        return found

    @property
    def text(self) -> str:
        """What the page says, as it is seen."""
        return " ".join(self.one("main").text.split())

    def all(self, selector: str) -> list[Any]:
        """Return all elements."""
        found: list[Any] = self.driver.find_elements("css selector", selector)
        return found

    def one(self, selector: str) -> Any:
        """Return an element, as soon as it is there."""
        return self.wait(lambda: (self.all(selector) or [None])[0], selector)

    def button(self, label: str) -> Any:
        """Return the button, or what looks like one, with that label."""
        return self.wait(lambda: self._button(label), label)

    def click(self, label: str) -> None:
        """Click on the button with that label, be it another one than a moment ago: a page may be live."""

        def is_done() -> bool:
            button = self._button(label)
            if button is not None:
                button.click()
            return button is not None

        self.wait(is_done, label)

    def _button(self, label: str) -> Any:
        shown = (each for each in self.all("button, .button, summary") if each.is_displayed())
        return next((each for each in shown if each.text.strip() == label), None)

    def wait(self, condition: Callable[[], Found], told: str = "") -> Found:
        """Return what *condition* does, as soon as that is true; the page may be another one meanwhile."""
        from selenium.common.exceptions import WebDriverException

        end = time.monotonic() + _WITHIN
        while True:
            try:
                if found := condition():
                    return found
            except WebDriverException:  # what was looked at has gone, which chromedriver says in several ways
                pass
            assert time.monotonic() < end, f"this did not come: {told}\n{self.driver.current_url}\n{self.text_now()}"
            time.sleep(0.02)

    def text_now(self) -> str:
        """Return what the page says, for a message."""
        return " ".join(self.driver.execute_script("return document.body.innerText").split())

    def until(self, *parts: str) -> None:
        """Wait until the page says all that."""
        self.wait(lambda: all(part in self.text for part in parts), " and ".join(parts))

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """Return what has the focus, in a word or two."""
        found: str = self.driver.execute_script(
            "const it = document.activeElement; return (it.innerText || it.name || it.tagName).trim()"
        )
        return found

    def tab_to(self, label: str, most: int = 80) -> None:
        """Press the tabulator until that has the focus."""
        from selenium.webdriver.common.keys import Keys

        for _ in range(most):
            self.press(Keys.TAB)
            if self.focused() == label:
                return
        raise AssertionError(f"the keyboard does not lead to {label}")

    def expect(self, status: int) -> None:
        """Take note that the browser will tell of an answer with that status."""
        self._expected.append(f"status of {status}")

    def problems(self) -> list[str]:
        """Return what went wrong in the browser: errors of scripts, and what the policy kept out."""
        told = [each["message"] for each in self.driver.get_log("browser")]
        return [each for each in told if not any(re.search(expected, each) for expected in self._expected)]
