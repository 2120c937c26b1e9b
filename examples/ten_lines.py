"""A flow in ten lines: a build, then tests and a linter side by side, then a release."""

import szal

release = szal.Flow("release")
build = release.step(lambda revision: f"app-{revision}.whl", name="build", max_retries=2, retry_delay=0.1)
test = release.step(lambda build: f"tested {build}", name="test")
lint = release.step(lambda build: f"{build} has no complaints", name="lint")


@release.step(needs=[test, lint], condition="inputs.channel == 'prod'")
def publish(build: str, channel: str) -> str:
    return f"{build} is in {channel}"


for step in release.run({"revision": 7, "channel": "prod"}).raise_for_failure().steps:
    print(step.step_name, step.status, step.output)
