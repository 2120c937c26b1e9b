"""What people see of results: `str`, and what a notebook shows."""

from szal import Engine, FlowDef, FlowMode, FlowResult, StepDef, StepResult, StepStatus, WorkflowState


def run(handler, *steps, **inputs):
    with Engine(handler) as engine:
        return engine.run(FlowDef("etl", FlowMode.DAG, steps=steps), inputs, execution_id="e1")


def test_a_line_for_each_step():
    def handler(ctx):
        if ctx.step.name == "load" and ctx.item != 1:
            raise OSError("disk\nfull")

    load = StepDef("load", foreach="inputs.n", max_retries=1, retry_delay=0)
    text = str(run(handler, StepDef("fetch"), load, StepDef("tell", depends_on=[load]), n=[1, 2]))
    head, *lines = text.splitlines()
    assert head.startswith("flow 'etl' failed: step 'load' failed: 1 of 2 items failed; [1]: retry exhausted: load")
    assert head.endswith("... (execution e1)")
    assert [line.split()[:2] for line in lines] == [["fetch", "completed"], ["load", "failed"], ["tell", "skipped"]]
    assert "failed (1 of 2 items)" in lines[1]
    assert lines[2].endswith("dependency failed")
    assert (
        len({line.index(status) for line, status in zip(lines, ["completed", "failed", "skipped"], strict=True)}) == 1
    )


def test_a_flow_without_steps_and_one_that_szal_rs_recorded():
    assert str(FlowResult("empty")) == "flow 'empty' completed"
    result = FlowResult("f", [StepResult("id-1", "", StepStatus.SKIPPED)], state=WorkflowState.CANCELLED, success=False)
    assert str(result) == "flow 'f' cancelled\n  id-1  skipped"


def test_a_notebook_gets_a_table_in_which_nothing_is_html():
    def handler(ctx):
        raise ValueError("<script>alert(1)</script>")

    page = run(handler, StepDef("<b>"))._repr_html_()
    assert page.startswith(
        "<p>flow &#x27;etl&#x27; failed: step &#x27;&lt;b&gt;&#x27; failed: ValueError: &lt;script&gt;"
    )
    assert "<td>&lt;b&gt;</td><td>failed</td>" in page
    assert "<script" not in page


def test_nothing_that_a_terminal_would_act_on_is_printed():
    def handler(ctx):
        raise ValueError("\x1b[31mred\x07\u202e")

    with Engine(handler) as engine:
        result = engine.run(FlowDef("etl", steps=[StepDef("a\x1b]0;title\x07b")]), execution_id="e\x1b[1m1")
    assert "ValueError: red" in str(result)
    assert "ab  failed" in str(result)
    assert not {"\x1b", "\x07", "\u202e"}.intersection(str(result) + result._repr_html_())
