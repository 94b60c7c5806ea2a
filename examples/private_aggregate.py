"""A chat model explains one clinic's figures, and learns of no patient.

    python examples/private_aggregate.py openai --model NAME
    python examples/private_aggregate.py anthropic --model NAME
    python examples/private_aggregate.py

One owner alone, without other parties: what leaves the clinic are counts and sums with noise, by which
nobody can tell whether a patient is in the table (differential privacy, ε = 1 in all). The last command sends
nothing and prints what the others would send. They use the official clients, of `pip install
'mpcpriv[demo,llm]'`, and these clients' own settings: OPENAI_API_KEY, ANTHROPIC_API_KEY, and `--base-url` for
another server.

Opened to the provider of the model: 4 counts, 2 sums, all noisy.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from sklearn.datasets import load_breast_cancer

from mpcpriv import privacy

CELLS = [f"{diagnosis}, {size}" for diagnosis in ("malignant", "benign") for size in ("small", "large")]
SMALLEST, LARGEST = 6, 28  # mm: what a radius is clipped to. Chosen without looking at the table.


def ask_openai(text: str, model: str, base_url: str | None) -> str:
    from openai import OpenAI

    client = OpenAI(base_url=base_url)
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content or ""


def ask_anthropic(text: str, model: str, base_url: str | None) -> str:
    from anthropic import Anthropic

    client = Anthropic(base_url=base_url)
    answer = client.messages.create(
        model=model, max_tokens=1024, messages=[{"role": "user", "content": text}]
    )
    return "".join(block.text for block in answer.content if block.type == "text")


ask = {"openai": ask_openai, "anthropic": ask_anthropic}
parser = argparse.ArgumentParser(description="A chat model explains noisy figures.")
parser.add_argument("provider", nargs="?", choices=ask, help="whom to ask; nobody where left out")
parser.add_argument("--model", help="its name, as the provider spells it")
parser.add_argument("--base-url", help="of another server that speaks the provider's interface")
wanted = parser.parse_args()
if wanted.provider and not wanted.model:
    parser.error("give --model as well")

# The clinic's table: one row per patient. It never leaves this process.
table = load_breast_cancer()
malignant = table.target == 0
radius = np.clip(np.rint(table.data[:, 0]), SMALLEST, LARGEST).astype(
    int
)  # whole mm: sums of integers are exact
cells = [
    f"{'malignant' if ill else 'benign'}, {'large' if size >= 15 else 'small'}"
    for ill, size in zip(malignant, radius, strict=True)
]

# A patient is in one cell and in one of the two sums, with a radius of at most LARGEST.
counts = privacy.histogram(cells, CELLS, epsilon=0.5)
sums = privacy.laplace([radius[malignant].sum(), radius[~malignant].sum()], sensitivity=LARGEST, epsilon=0.5)
spent = (counts.loss + sums.loss).epsilon(0)

# From here on only what is noisy; whatever is made of it costs nothing more.
lines = []
for cell in CELLS:
    low, high = counts.interval(cell)
    lines.append(
        f"- {cell}: about {counts.counts[cell]} patients (95 % interval for the noise: {low} to {high})"
    )
for diagnosis, total in zip(("malignant", "benign"), sums.values, strict=True):
    patients = sum(counts.counts[cell] for cell in CELLS if cell.startswith(diagnosis))
    lines.append(f"- {diagnosis}: mean radius about {total / max(patients, 1):.1f} mm")
text = "\n".join(
    [
        f"Tumours in a clinic (small: radius below 15 mm). Differential privacy, epsilon {spent:.2g}.",
        *lines,
        "Explain in two sentences how size and diagnosis go together, and what the noise leaves open.",
    ]
)
print(f"--- sent, ε = {spent:.2g} ---\n{text}\n---")
if wanted.provider:
    print(ask[wanted.provider](text, wanted.model, wanted.base_url))

# The table is public, so that one can check: the noise is as small as it says, once in a million not.
for cell in CELLS:
    if abs(counts.counts[cell] - cells.count(cell)) > counts.margin(1 - 1e-6):
        sys.exit(f"the count of {cell} is further off than its noise can be")
