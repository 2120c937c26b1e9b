"""Commands that tests run, by an engine as users run them."""

from szal import Engine, EngineConfig, FlowDef, Handlers, StepDef


def command(run, name="sh", **config):
    """Return a step that is a command."""
    return StepDef(name, step_type="shell", config={"run": run, **config})


def outcome(*steps, inputs=None, flow_inputs=None, **config):
    """Run *steps* one after another, and return the result of the last."""
    flow = FlowDef("demo", steps=list(steps), inputs=flow_inputs or {})
    with Engine(Handlers(), EngineConfig(**config)) as engine:
        return engine.run(flow, inputs)[steps[-1].name]


def printed(*steps, **options):
    """Run *steps* one after another, and return what the last has printed; fail where it has failed."""
    result = outcome(*steps, **options)
    assert result.error is None, result.error
    return result.output["stdout"]
