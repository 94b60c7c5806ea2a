"""A clinic and a registry, partly about the same people, whom they find by name and day of birth.

    python examples/aligned_tables.py

Two owners and a dealer, each with a daemon of its own on this machine. The clinic has measurements, the
registry who fell ill later; neither orders its rows, writes names or writes days as the other does. A job
names an alignment of the agreement: the owners first find the rows that both have, by private set
intersection, and the model is then computed on shares of those rows.

Opened to the clinic: the coefficients. Both learn which of their own rows the other has, too, and how many
rows it has; all members learn how many rows both have.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import tomllib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mpcpriv import analyses, connect
from mpcpriv.agreement.model import Agreement
from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.demo.site import daemons, settle
from mpcpriv.party.config import read_party

OWNERS = ("clinic", "registry")

TERMS = """
id = "follow-up"
version = 1
title = "What a clinic measured, and who fell ill later"
approval = "automatic"
purposes = [{ name = "research", legal_basis = "GDPR Art. 9(2)(j)" }]
privacy = { unnoised = true, minimum_cohort = 100 }

[[datasets]]
name = "clinic-patients"
owner = "clinic"
privacy_unit = "person"
columns = [
    { name = "name", type = "identifier" },
    { name = "born", type = "identifier" },
    { name = "pressure", type = "number", low = 80.0, high = 220.0 },
    { name = "glucose", type = "number", low = 2.0, high = 15.0 },
]

[[datasets]]
name = "registry-patients"
owner = "registry"
privacy_unit = "person"
columns = [
    { name = "person", type = "identifier" },
    { name = "birthday", type = "identifier" },
    { name = "smoker", type = "boolean" },
    { name = "ill", type = "boolean" },
]

[[alignments]]
name = "people"
mode = "all"
minimum_rows = 100

[alignments.keys]
clinic-patients = [
    { column = "name", rules = ["nfkc", "casefold", "no-diacritics", "no-punctuation", "single-spaces"] },
    { column = "born", rules = ["date-dmy"] },
]
registry-patients = [
    { column = "person", rules = ["nfkc", "casefold", "no-diacritics", "no-punctuation", "single-spaces"] },
    { column = "birthday", rules = ["date-mdy"] },
]

[[analyses]]
name = "logistic-regression"
purposes = ["research"]
recipients = ["clinic"]
submitters = ["clinic"]
parameters = { target = { choices = ["ill"] } }
inputs = { clinic-patients = ["pressure", "glucose"], registry-patients = ["smoker", "ill"] }
"""

# People, made up. Each is somebody's by name and day of birth; the clinic knows 320, the registry 400.
random = np.random.default_rng(7)
LAST = ["Müller", "García", "Dvořák", "O'Neill", "Smith-Jones", "Núñez", "Łoś", "Brontë"]
FIRST = ["Zoë", "Anna", "José", "Jürgen", "Ida", "André"]
names = [(LAST[random.integers(8)], FIRST[random.integers(6)]) for _ in range(500)]
days = [date(1930, 1, 1) + timedelta(days=int(n)) for n in random.choice(25_000, 500, replace=False)]
pressure, glucose = random.uniform(90, 200, 500).round(1), random.uniform(3, 12, 500).round(2)
smoker = random.integers(0, 2, 500)
risk = (pressure - 145) / 25 + (glucose - 7) / 3 + smoker - 0.5
ill = (random.uniform(size=500) < 1 / (1 + np.exp(-risk))).astype(int)
in_clinic, in_registry = random.permutation(500)[:320], random.permutation(500)[:400]


def write(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def clinic(i: int) -> list[object]:  # MÜLLER,  Zoë    3.12.1961
    last, first = names[i]
    born = f"{days[i].day}.{days[i].month}.{days[i].year}"
    return [f"{last.upper()},  {first}", born, pressure[i], glucose[i]]


def registry(i: int) -> list[object]:  # Muller Zoe    12/03/1961
    plain = str.maketrans("üíñáéëóřú", "uinaeeoru")
    last, first = names[i]
    return [f"{last} {first}".translate(plain), f"{days[i]:%m/%d/%Y}", smoker[i], ill[i]]


with tempfile.TemporaryDirectory(prefix="mpcpriv-example-") as place:
    folder = Path(place)
    seats = settle(
        folder, {owner: {f"{owner}-patients": "patients.csv"} for owner in OWNERS}
    )  # as `mpcpriv init` makes parties
    tables = {"clinic": [clinic(i) for i in in_clinic], "registry": [registry(i) for i in in_registry]}
    write(folder / "clinic/patients.csv", ["name", "born", "pressure", "glucose"], tables["clinic"])
    write(folder / "registry/patients.csv", ["person", "birthday", "smoker", "ill"], tables["registry"])

    content = tomllib.loads(TERMS)
    content["analyses"][0]["code"] = analyses.digest("logistic-regression")
    start = datetime.now(UTC).replace(microsecond=0)
    content |= {"valid_from": start, "valid_until": start + timedelta(days=1)}
    content["members"] = [
        {
            "name": seat.name,
            "roles": ["data-owner", "compute", "recipient", "submitter"]
            if seat.name in OWNERS
            else ["dealer"],
            "endpoint": seat.endpoint,
            "certificate": seat.certificate,
            "signing_key": seat.signing_key,
        }
        for seat in seats
    ]
    signed = SignedAgreement.unsigned(Agreement.model_validate(content))
    for seat in seats:
        signed = signed.signed_by(seat.name, read_party(folder / seat.name / "party.toml").signing_key())
    (folder / "follow-up.agreement.json").write_bytes(signed.to_bytes())

    with daemons(folder, [seat.name for seat in seats]):
        for seat in seats:
            with connect(folder / seat.name / "party.toml") as daemon:
                daemon.add_agreement(folder / "follow-up.agreement.json")
        with connect(folder / "clinic/party.toml") as daemon:
            job = daemon.new_job(
                "follow-up",
                "logistic-regression",
                purpose="research",
                inputs={
                    "clinic-patients": ["pressure", "glucose"],
                    "registry-patients": ["smoker", "ill"],
                },
                alignment="people",
                parameters={"target": "ill"},
                recipients=["clinic"],
            )
            result = daemon.submit(job).result(timeout=100, show=False)

print(f"{len(in_clinic)} people in the clinic, {len(in_registry)} in the registry, {result['rows']} in both")
for name, coefficient in zip(result["features"], result["coefficients"], strict=True):
    print(f"{name}: {coefficient:+.4f}")

# The people are made up, so that one can check: the same model of those in both tables, in the clear.
both = sorted(set(in_clinic.tolist()) & set(in_registry.tolist()))
features = np.column_stack([pressure, glucose, smoker])[both]
scaler = StandardScaler().fit(features)
model = LogisticRegression(C=1.0, tol=1e-10).fit(scaler.transform(features), ill[both])
expected = model.coef_[0] / scaler.scale_
worst = float(np.abs((result["coefficients"] - expected) * scaler.scale_).max())
print(f"largest difference from scikit-learn on the joined table: {worst:.1e}")
if result["rows"] != len(both) or worst > 1e-3:
    sys.exit(f"scikit-learn has {len(both)} rows and coefficients {expected}")
