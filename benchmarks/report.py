"""All that one run found, and its JSON."""

import json
from typing import Any

import attrs

from benchmarks.case import Verdict
from benchmarks.measure import Found
from benchmarks.party import Role

__all__ = ["Report"]


@attrs.define(kw_only=True)
class Report:
    """What was found, where, and by which command. `missing` are peers that could not be installed, and why."""

    machine: dict[str, str]
    command: str
    cases: list[Found] = attrs.field(factory=list)
    missing: dict[str, str] = attrs.field(factory=dict)

    def add(self, found: Found) -> None:
        """Take in what a case gave."""
        self.cases.append(found)

    @property
    def verdicts(self) -> list[Verdict]:
        """All ratios."""
        return [verdict for found in self.cases for verdict in found.verdicts]

    def versions(self) -> dict[str, str]:
        """Return what ran, with the Python that ran it, by name."""
        seen: dict[str, str] = {}
        for found in self.cases:
            for label, versions in found.versions.items():
                peer = found.roles[label].peer
                python = versions["python"]
                for name, version in versions.items():
                    if peer is not None and name != "python":
                        own = name if name == peer.name else f"{name} with {peer.name}"
                        seen[own] = f"{version} on Python {python}"
                    elif name != "python":
                        seen[name] = version
        return seen

    def failures(self) -> list[tuple[Role, str]]:
        """Return who failed, and at what and why: one that is in no ratio is told all the same."""
        return [
            (found.roles[label], f"{found.case.name}, {label} at {size:,}: {series.error}")
            for found in self.cases
            for (label, size), series in found.measures.items()
            if series.error is not None
        ]

    def broken(self) -> list[str]:
        """Return the failures of szal and the floors."""
        return [text for role, text in self.failures() if role.peer is None]

    def circumstances(self) -> list[str]:
        """Return a line for each thing that there is to know: what is missing and what failed, machine and versions."""
        absent = [f"missing: {name}: {reason}" for name, reason in self.missing.items()]
        absent += [f"failed: {text}" for _, text in self.failures()]
        return absent + [f"{key}: {value}" for key, value in {**self.machine, **self.versions()}.items()]

    def as_json(self) -> str:
        """Return everything, each repetition included; times are seconds for a whole repetition."""
        return json.dumps(
            {
                "command": self.command,
                "machine": self.machine,
                "versions": self.versions(),
                "missing": self.missing,
                "cases": [_case(found) for found in self.cases],
                "ratios": [
                    {**attrs.asdict(verdict), "ratio": verdict.ratio, "met": verdict.met} for verdict in self.verdicts
                ],
            },
            indent=1,
        )


def _case(found: Found) -> dict[str, Any]:
    case = found.case
    figures = [
        {
            "subject": label,
            "size": size,
            "per_unit": case.per_unit(series.median, size) if series.values else None,
            "spread": series.spread if series.values else None,
            "values": series.values,
            "error": series.error,
        }
        for (label, size), series in found.measures.items()
    ]
    return {"name": case.name, "title": case.title, "scale": case.scale, "figures": figures}
