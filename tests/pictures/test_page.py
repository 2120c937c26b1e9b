"""An execution as a page: what is on it, and that nothing that a step says does anything there."""

import re
import sys
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import attrs
import pytest
from drawings import seen

from szal import Engine, EngineConfig, Flow, FlowDef, MissingExtra, StepDef, open_store
from szal.engine.inspection import checkpoints_of
from szal.pictures.graph import graph_svg
from szal.pictures.page import execution_html
from szal.pictures.timeline import timeline_svg

EVIL = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></svg></pre>",
    "]]><!-- -->",
    "\x00\x07\x1b[31m\x7f\x9b",
    "\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\ufffe\uffff",
    "x" * 5000,
    "&lt;b&gt; &#x3c;",
    "javascript:alert(1)",
)


class Parser(HTMLParser):
    """Takes note of all elements and attributes."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(html):
    parser = Parser()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def store():
    with open_store("memory:") as store:
        yield store


def run(store, flow, handler, name, **inputs):
    with Engine(handler, EngineConfig(execution_store=store)) as engine:
        engine.run(flow, inputs, execution_id=name)
        return engine.look(name)


def test_nothing_that_a_step_says_is_markup(store):
    names = [f"{text[:300]} {number}" for number, text in enumerate(EVIL) if "\x00" not in text]

    def handler(ctx):
        if ctx.step.name == "last":
            raise ValueError("".join(EVIL))
        return {"said": [text.replace("\x00", "") for text in EVIL]}

    steps = [*(StepDef(name, description=name) for name in names), StepDef("last", max_retries=1, retry_delay=0.0)]
    status = run(store, FlowDef(names[0], steps=steps), handler, "evil", told=EVIL[1])
    checkpoints = checkpoints_of(store, "evil")
    page = execution_html(status, checkpoints, next_commands=EVIL)
    found = parsed(page)
    assert not {"script", "img", "iframe", "object"} & {*found.tags}
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    links = [value for name, value in found.attributes if name in ("href", "src")]
    assert links
    assert all(re.fullmatch(r"#step-[0-9]+", link) for link in links)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ufffe\uffff]", page)
    for svg in (graph_svg(status.flow, status), timeline_svg(status, checkpoints)):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ufffe\uffff]", svg)
        ET.fromstring(svg)
        assert len([each for each in ET.fromstring(svg).iter() if "script" in each.tag]) == 0
    for box, text in seen(graph_svg(status.flow, status)).texts:
        assert text.right <= box.right


def test_it_needs_nothing_from_elsewhere(store):
    status = run(store, FlowDef("f", steps=[StepDef("a")]), lambda ctx: 1, "alone")
    page = execution_html(status)
    assert "default-src 'none'" in unescape(page)
    assert re.findall(r"https?://[^\"]*", page.replace("http://www.w3.org/2000/svg", "")) == []
    assert "<link" not in page


def test_it_tells_what_failed_with_its_traceback_and_each_attempt(store):
    def handler(ctx):
        if ctx.step.name == "load":
            raise OSError(f"disk full, attempt {ctx.attempt}")
        return {"rows": 3}

    steps = [StepDef("list"), StepDef("load", max_retries=1, retry_delay=0.0), StepDef("tell")]
    status = run(store, FlowDef("etl", steps=steps), handler, "fails", day="2026-11-28")
    page = execution_html(status, checkpoints_of(store, "fails"), next_commands=["szal rerun fails"])
    for told in (
        "disk full, attempt 1",
        "disk full, attempt 2",
        "Traceback (most recent call last)",
        "szal rerun fails",
    ):
        assert told in page
    for told in ("2026-11-28", "&quot;rows&quot;: 3", "prior step failed", 'aria-label="Graph"'):
        assert told in page
    parsed(page)


def test_items_outputs_of_commands_and_undos_are_on_it(store):
    flow = Flow("f", rollback_on_failure=True)

    @flow.step
    def names():
        return ["a", "b", "c"]

    @flow.step(foreach=names)
    def load(item, index):
        if index == 1:
            raise ValueError(f"no {item}")
        return item

    @load.rollback
    def unload():
        return "took it back"

    flow.add_step(StepDef("list", step_type="shell", config={"run": "echo one; echo two >&2"}))
    status = run(store, flow, flow, "items")
    page = execution_html(status, checkpoints_of(store, "items"))
    parsed(page)
    for told in ("3 items", "ValueError: no b", "exit code 0", "stdout", "two"):
        assert told in page


def test_when_a_step_was_undone_is_on_it_with_what_went_wrong(store):
    flow = Flow("f", rollback_on_failure=True)

    @flow.step(max_retries=1, retry_delay=0)
    def publish():
        return 1

    @publish.rollback
    def unpublish(ctx):
        if ctx.attempt == 1:
            raise OSError("registry <away>")

    @flow.step(needs=publish)
    def boom():
        raise ValueError("no")

    status = run(store, flow, flow, "undone")
    page = execution_html(status, checkpoints_of(store, "undone"))
    parsed(page)
    assert re.search(r"Undoing it.*OSError: registry &lt;away&gt;</td>.*<td>undone</td>", page, re.DOTALL)
    assert "undo 2, " in page


def test_it_is_the_same_for_the_same_execution(store):
    status = run(store, FlowDef("f", steps=[StepDef("a"), StepDef("b")]), lambda ctx: 1, "same")
    rows = checkpoints_of(store, "same")
    assert execution_html(status, rows) == execution_html(status, rows)


def test_an_execution_whose_definition_is_not_kept_has_no_graph(store):
    status = run(store, FlowDef("f", steps=[StepDef("a")]), lambda ctx: 1, "rust")
    page = execution_html(attrs.evolve(status, flow=None))
    assert "Timeline" in page
    assert 'aria-label="Graph"' not in page


class TestWithoutTheExtra:
    @pytest.fixture(autouse=True)
    def nothing_installed(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "igraph", None)

    def test_a_picture_says_which_one_it_needs(self):
        with pytest.raises(MissingExtra, match=r'pip install "szal\[graph\]"'):
            FlowDef("f", steps=[StepDef("a")]).to_svg()

    def test_a_notebook_shows_text_for_mermaid(self):
        flow = FlowDef("f", steps=[StepDef("<a>")])
        assert flow._repr_svg_() is None
        assert flow._repr_html_().startswith("<pre>---\ntitle: &quot;f&quot;\n---\nflowchart TD")

    def test_a_timeline_needs_none(self, store):
        status = run(store, FlowDef("f", steps=[StepDef("a")]), lambda ctx: 1, "timeline")
        assert timeline_svg(status).startswith("<svg")


def test_a_notebook_shows_the_picture():
    flow = Flow("f")

    @flow.step
    def build(): ...

    assert flow._repr_svg_() == flow.to_svg() == flow.definition.to_svg()
    assert flow._repr_html_() is None


def test_a_notebook_shows_a_flow_that_is_none_as_python_does():
    flow = FlowDef("f", steps=[StepDef("a"), StepDef("a")])
    assert (flow._repr_svg_(), flow._repr_html_()) == (None, None)
