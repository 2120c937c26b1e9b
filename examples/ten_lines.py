"""A flow in ten lines: a build, then tests and a linter side by side, then a release."""

import szal

flow = szal.FlowDef("release", szal.FlowMode.DAG)
build = flow.add_step(szal.StepDef("build", max_retries=2, retry_delay=0.1))
test = flow.add_step(szal.StepDef("test", depends_on=[build]))
lint = flow.add_step(szal.StepDef("lint", depends_on=[build]))
flow.add_step(szal.StepDef("publish", depends_on=[test, lint], condition="inputs.channel == 'prod'"))

result = szal.run(flow, {"channel": "prod"}, handler=lambda ctx: f"{ctx.step.name} done")
for step in result.raise_for_failure().steps:
    print(step.step_name, step.status, step.output)
