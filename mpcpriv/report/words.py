"""What was promised of a release, and what was not, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mpcpriv.job.model import Job

NOT_PROMISED = (
    "All computing parties together, or the dealer together with one of them, could have read the rows.",
    "A party that did not follow the protocol can have made the result wrong.",
    "That the job ran, who took part and how many rows each data set has was not hidden from the members.",
)


def privacy(statement: Mapping[str, Any]) -> list[str]:
    """What the release tells of a row, and who could learn more."""
    text, more = str(statement.get("text", "")), str(statement.get("more", ""))
    found = [f"{_capital(text)}."]
    noise = statement.get("privacy")
    if noise is None:
        if "rounding" in statement:
            found.append(f"Rounded before anybody saw them: {statement['rounding']}.")
        else:
            found.append(
                "The numbers are exact: who knows all rows but one can compute the last one's part in them."
            )
        found.append(f"{_capital(more)}.")
        return found
    epsilon, delta = float(noise["epsilon"]), float(noise["delta"])
    but = f", but for a chance of {delta:g}" if delta else ""
    found.append(
        "Whether a given row takes part: this result changes the odds of any guess at that by a factor of at "
        f"most e^{epsilon:g} = {_factor(epsilon)}{but}; the odds between two values of a row that is known "
        f"to take part, by its square{_twice(epsilon, delta)}."
    )
    found.append(
        f"Every computing party added {noise['mechanism']} noise of its own, which no other party knows. "
        f"What is protected: {noise['neighbours']}."
    )
    found.append(f"{_capital(more)}.")
    return found


def aligned(job: Job) -> list[str]:
    """Who knows whose rows the result is about."""
    if job.alignment is None:
        return []
    sets = [one.dataset for one in job.inputs]
    said = (
        f"By alignment {job.alignment} each owner of {', '.join(sets)} knows which of its own rows are about "
        f"people who are in {'the other one' if len(sets) == 2 else 'all the others'}, too, and noise does "
        "not hide that; the other members know how many they are."
    )
    if len(sets) > 2:
        said += " Some of the owners together may know who is in several of the data sets and not in all."
    return [said]


def not_promised(statement: Mapping[str, Any]) -> list[str]:
    """What nobody should take from it."""
    if statement.get("privacy") is None:
        return [
            *NOT_PROMISED,
            "Several results together can tell more than each alone; without noise nothing bounds how much.",
        ]
    return [
        *NOT_PROMISED,
        "Somebody who is in k rows is protected by k times epsilon.",
        "What holds for many, and of somebody as one of them, is not hidden: statistics are for that.",
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _twice(epsilon: float, delta: float) -> str:
    """From one value to none, and from none to the other: the second chance is enlarged by the first."""
    if not delta:
        return ""
    chance = (1 + math.exp(epsilon)) * delta if epsilon < 700 else 1.0
    return f", but for a chance of {min(chance, 1.0):.3g}"


def _factor(epsilon: float) -> str:
    return f"{math.exp(epsilon):.3g}" if epsilon < 700 else "more than any number"
