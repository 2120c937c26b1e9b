"""Values in commands: the script that a shell gets, with a variable where a placeholder stands."""

from szal.model.config import DEFAULT_SHELL, words_of
from szal.scheduler.context import StepContext
from szal.scripts.script import Script

__all__ = ["script_of"]


def script_of(ctx: StepContext, run: str, shell: str | None) -> tuple[str, dict[str, str]]:
    """Return the script for *shell*, with a variable for each placeholder of *run*, and the variables.

    Variables and not quoted text, as a value's quotes would end the quotes that people write around a placeholder, and
    set it free. The config has been checked: no placeholder stands where a variable would be read twice.
    """
    values: list[str] = []

    def note(value: str) -> str:
        values.append(value)
        return value

    ctx.render(run, quote=note)
    variables = {f"_szal_{number}": value for number, value in enumerate(values, 1)}
    return Script.read(run, words_of(shell or DEFAULT_SHELL)).filled(tuple(variables)), variables
