"""Each page and each action, as people see and do them: in Chromium, served by a process that runs nothing of it."""

import uuid
from pathlib import Path

import pytest
from browser.page import Browser
from browser.shop import Gate, order, slow, transfer

from szal import Engine, FlowDef, StepDef, WorkflowState
from szal.engine.execution import Execution

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'&</title>\u202e"
PAGES = ("/", "/executions/{}", "/flows/order", "/waiting", "/many/cancel", "/graphs/{}")


@pytest.fixture
def name() -> str:
    """An id of its own."""
    return f"o-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def waits(engine: Engine, name: str) -> str:
    """An order that waits for an answer."""
    engine.run(order, {"number": 7}, execution_id=name, labels={"team": name})
    return name


@pytest.fixture
def failed(engine: Engine, waits: str) -> str:
    """An order that failed."""
    engine.signal(waits, "answer", {})
    engine.resume(waits)
    return waits


def begun(engine: Engine, name: str, gate: Gate) -> Execution:
    return engine.start(slow, {"gate": str(gate.path)}, execution_id=name)


class TestWhatIsSeen:
    def test_the_list_is_filtered_and_leads_to_one(self, browser: Browser, failed: str) -> None:
        browser.go("/")
        browser.one('input[name="label"]').send_keys(f"team={failed}")
        browser.click("Filter")
        browser.wait(lambda: len(browser.all("table.list tbody tr")) == 1)
        browser.one(f'.list a[href$="{failed}"]').click()
        browser.until("✗failed", "KeyError: 'by'", '{"number": 7}')
        assert browser.path == f"/executions/{failed}"
        browser.one(".over a").click()
        browser.until("Slowest steps", "Definitions", "Version 1")

    def test_a_state_is_chosen_and_left_by_a_click(self, browser: Browser, failed: str) -> None:
        browser.go(f"/?label=team%3D{failed}")
        browser.one(".counts .s-failed").click()
        assert browser.one(".counts .s-failed").get_attribute("aria-current") == "true"
        assert "state=failed" in browser.driver.current_url
        browser.one(".counts .s-failed").click()
        browser.wait(lambda: "state=" not in browser.driver.current_url)

    def test_the_graph_leads_to_steps(self, browser: Browser, failed: str) -> None:
        browser.go(f"/executions/{failed}")
        browser.driver.execute_script("arguments[0].scrollIntoView()", browser.one(".graph"))
        link = browser.all(".graph svg a")[-1]
        assert browser.one(".graph .szal-failed")
        browser.driver.execute_script("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", link)
        browser.wait(lambda: browser.driver.current_url.endswith("#step-2"))

    def test_a_run_elsewhere_is_watched_from_its_start_to_its_end(
        self, browser: Browser, engine: Engine, name: str, tmp_path: Path
    ) -> None:
        gate = Gate(tmp_path / "gate")
        execution = begun(engine, name, gate)
        browser.go(f"/executions/{name}")
        browser.until("▶running", "first")
        browser.driver.execute_script("window.isTheSame = true")
        gate.open()
        assert execution.result(timeout=30).success
        browser.until("✓completed", "through and done")
        browser.wait(lambda: not browser.all("main[data-live]:not([data-live=''])"))
        assert browser.driver.execute_script("return window.isTheSame")

    def test_what_somebody_types_and_has_opened_stays_while_it_runs(
        self, browser: Browser, engine: Engine, name: str, tmp_path: Path
    ) -> None:
        gate = Gate(tmp_path / "gate")
        execution = begun(engine, name, gate)
        browser.go(f"/executions/{name}")
        browser.click("Signal…")
        browser.one('#d-signal input[name="name"]').send_keys("half a na")
        gate.open()
        assert execution.result(timeout=30).success
        browser.until("✓completed", "through and done")
        assert browser.one('#d-signal input[name="name"]').get_attribute("value") == "half a na"

    def test_counts_change_by_themselves(self, browser: Browser, engine: Engine, name: str) -> None:
        browser.go(f"/?label=team%3D{name}")
        browser.until("No execution passes these filters")
        engine.run(order, {"number": 1}, execution_id=name, labels={"team": name})
        browser.until("paused 1")


class TestWhatIsDone:
    def test_cancel(self, browser: Browser, engine: Engine, waits: str) -> None:
        browser.go(f"/executions/{waits}")
        browser.click("Cancel")
        browser.until("Asked to cancel")
        assert engine.look(waits).is_cancelling

    def test_an_answer_is_checked_as_it_is_typed_sent_and_resumed(
        self, browser: Browser, engine: Engine, waits: str
    ) -> None:
        browser.go(f"/executions/{waits}")
        value = browser.one('.wait textarea[name="value"]')
        value.send_keys("{by: ann}")
        browser.click("Send answer")
        assert "That is no JSON" in value.get_property("validationMessage")
        value.clear()
        value.send_keys('{"by": "ann"}')
        browser.click("Send answer")
        browser.until("Sent. It is delivered")
        browser.click("Resume")
        browser.until("✓completed", "paid for 7, approved by ann")
        assert engine.look(waits).state is WorkflowState.COMPLETED

    def test_rerun_from_a_step(self, browser: Browser, engine: Engine, failed: str) -> None:
        browser.go(f"/executions/{failed}")
        browser.one('select[name="from_step"] option[value="check"]').click()
        browser.click("with other inputs")
        browser.one('textarea[name="inputs"]').send_keys('{"number": 8}')
        browser.click("Rerun")
        browser.until("This is the new execution", f"Rerun of {failed}", '{"number": 8}', "waits for the signal answer")

    def test_resolve(self, browser: Browser, engine: Engine, name: str) -> None:
        engine.run(transfer, execution_id=name)
        browser.go(f"/executions/{name}")
        browser.until("may have been done or not")
        browser.one('.wait textarea[name="output"]').send_keys('"moved"')
        browser.click("It completed")
        browser.until("Decided.")
        browser.click("Resume")
        browser.until("✓completed", "moved")

    def test_the_inbox(self, browser: Browser, engine: Engine, waits: str) -> None:
        browser.go("/waiting")
        form = f'form[action="/executions/{waits}/signal"]'
        browser.one(f"{form} textarea").send_keys('{"by": "bob"}')
        browser.one(f"{form} button").click()
        browser.wait(lambda: browser.path == "/waiting" and not browser.all(form))
        assert engine.resume(waits).success

    def test_many_are_selected_and_run_again_once_that_is_confirmed(
        self, browser: Browser, engine: Engine, name: str
    ) -> None:
        for number in range(3):
            engine.run(order, {"number": number}, execution_id=f"{name}-{number}", labels={"team": name})
            engine.signal(f"{name}-{number}", "answer", {})
            engine.resume(f"{name}-{number}")
        browser.go(f"/?label=team%3D{name}")
        assert not browser.button("Rerun…").is_enabled()
        browser.one("#all").click()
        browser.one(f'input[value="{name}-1"]').click()
        browser.click("Rerun…")
        browser.until("Rerun 2 executions?", f"{name}-0", f"{name}-2")
        browser.click("Rerun 2")
        browser.until("2 executions being run again")
        browser.wait(lambda: engine.config.execution_store.count(parent=f"{name}-2"))  # type: ignore[union-attr]

    def test_all_that_pass_the_filters_are_cancelled(self, browser: Browser, engine: Engine, waits: str) -> None:
        browser.go(f"/?label=team%3D{waits}")
        next(each for each in browser.all("a.button") if each.text == "Cancel…").click()
        browser.until("Cancel 1 execution?")
        browser.click("Cancel 1")
        browser.until("1 execution asked to cancel")
        assert engine.look(waits).is_cancelling

    def test_what_cannot_be_done_is_told(self, browser: Browser, engine: Engine, waits: str) -> None:
        browser.expect(409)
        browser.go(f"/executions/{waits}")
        browser.driver.execute_script("window.cancel = document.querySelector('form[action$=\"/cancel\"]')")
        engine.cancel(waits)
        engine.resume(waits)
        browser.driver.execute_script("document.body.append(cancel); cancel.submit()")  # which is about to go
        browser.until("That cannot be done", "it has ended")


class TestWhoeverLooks:
    def test_hostile_content_is_text(self, browser: Browser, engine: Engine, name: str) -> None:
        steps = [StepDef(HOSTILE), StepDef("ask", step_type="wait", config={"signal": HOSTILE})]
        with Engine.open(engine.config.execution_store, lambda ctx: HOSTILE) as other:  # type: ignore[arg-type]
            flow = FlowDef(HOSTILE, steps=steps)
            other.run(flow, {HOSTILE: HOSTILE}, execution_id=f"{name}{HOSTILE}", labels={HOSTILE: HOSTILE})
        browser.go("/")
        link = browser.one(f'a[href*="{name}"]').get_attribute("href").removeprefix(browser.address)
        flow_link = browser.one('.list a[href*="/flows/%3Cimg"]').get_attribute("href").removeprefix(browser.address)
        for path in ("/", link, flow_link, "/waiting", "/many/cancel"):
            browser.go(path)
            browser.until("alert(2)")
            assert not browser.all("main img, main script")
            assert "onerror" not in browser.driver.execute_script(
                "return [...document.querySelectorAll('*')].flatMap((it) => it.getAttributeNames()).join(' ')"
            )

    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    def test_a_phone_shows_all_of_each_page_and_its_states_can_be_read(
        self, browser: Browser, failed: str, dark: bool
    ) -> None:
        for width in (390, 1280):
            browser.look_like(width=width, dark=dark)
            for path in PAGES:
                browser.go(path.format(failed))
                wide = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
                inner, outer = browser.driver.execute_script(wide)
                assert inner <= outer, (path, width)
                assert [each for each in browser.driver.execute_script(CONTRASTS) if each[0] < 4.5] == [], path

    def test_names_for_those_who_hear_the_page(self, browser: Browser, waits: str) -> None:
        for path in PAGES:
            browser.go(path.format(waits))
            assert browser.driver.execute_script(UNNAMED) == [], path
            assert len(browser.all("h1")) == 1, path

    def test_an_answer_is_sent_with_the_keyboard_alone(self, browser: Browser, engine: Engine, waits: str) -> None:
        from selenium.webdriver.common.keys import Keys

        browser.go(f"/?label=team%3D{waits}")
        browser.press(Keys.TAB)
        assert browser.focused() == "Skip to the content"
        browser.press(Keys.ENTER)
        browser.tab_to(waits)
        browser.press(Keys.ENTER)
        browser.until("waits for the signal")
        browser.tab_to("value")
        browser.press('{"by": "ann"}', Keys.TAB)
        assert browser.focused() == "Send answer"
        browser.press(Keys.ENTER)
        browser.until("Sent. It is delivered")
        assert engine.resume(waits).success

    def test_without_scripts_pages_are_whole_and_forms_are_sent(
        self, browser: Browser, engine: Engine, waits: str
    ) -> None:
        browser.enable_scripts(False)
        browser.go(f"/executions/{waits}")
        assert "waits for the signal answer" in browser.text
        browser.all('.wait textarea[name="value"]')[0].send_keys('{"by": "eve"}')
        browser.all(".wait button")[0].click()
        browser.until("Sent. It is delivered")
        assert engine.resume(waits)["pay"].output == "paid for 7, approved by eve"


CONTRASTS = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((each) => each / 255)
  .map((each) => each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
  .reduce((sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
const behind = (it) => {
  for (; it; it = it.parentElement) {
    const colour = parse(getComputedStyle(it).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
return [...document.querySelectorAll("main *, header *")]
  .filter((it) => !it.closest("svg") && !it.disabled && it.offsetParent
    && [...it.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
  .map((it) => {
    const [one, other] = [light(parse(getComputedStyle(it).color)), light(behind(it))].sort((a, b) => b - a);
    return [(one + 0.05) / (other + 0.05), it.outerHTML.slice(0, 90)];
  });
"""
"""The contrast of each text with what is behind it."""

UNNAMED = """
const ids = [...document.querySelectorAll("[id]")].map((it) => it.id);
const twice = ids.filter((id, at) => ids.indexOf(id) !== at);
const fields = [...document.querySelectorAll("input:not([type=hidden]), select, textarea")]
  .filter((it) => !it.labels.length && !it.ariaLabel);
const others = [...document.querySelectorAll("a, button, summary, svg[role=img]")]
  .filter((it) => !it.textContent.trim() && !it.ariaLabel);
return [...twice, ...[...fields, ...others].map((it) => it.outerHTML)];
"""
"""What has no name, or an id that another has too."""
