"""Whole jobs, between real parties: what they release, and what a plan said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpcpriv.engine
from mpcpriv.party.jobs import RunReport
from mpcpriv.party.planning import plan_job
from tests.protocol.job_cases import Case, OWNERS, case, column
from tests.protocol.parties import outcomes


def run(one: Case, parties: tuple[str, ...] = OWNERS) -> list[RunReport]:
    programs = [one.program(name) for name in parties]
    results, failed = outcomes([*(program.run for program in programs), mpcpriv.engine.deal])
    if failed:
        raise results[failed[0]]
    return results[:-1]


def cancer() -> tuple[dict[str, np.ndarray], np.ndarray]:
    from sklearn.datasets import load_breast_cancer

    found: Any = load_breast_cancer()
    return dict(zip(map(str, found.feature_names), found.data.T, strict=True)), found.target


def test_first(tmp_path: Path) -> None:
    features, target = cancer()
    names = list(features)
    table = {**features, "benign": target}
    parts = np.split(np.arange(len(target)), [200, 400])
    tables = {o: {n: v[rows] for n, v in table.items()} for o, rows in zip(OWNERS, parts)}
    terms = [*(column(n, v) for n, v in features.items()), column("benign", target, "boolean")]
    import time
    one = case(tmp_path, tables, dict.fromkeys(OWNERS, terms), "logistic-regression", {"target": "benign", "steps": 10}, recipients=["alice", "carol"])
    t=time.time(); plan = plan_job(one.admitted(), {f"{o}-rows": len(p) for o, p in zip(OWNERS, parts)}); print("plan", time.time()-t)
    print(plan)
    t=time.time(); reports = run(one); print("run", time.time()-t)
    result = json.loads(reports[0].result)["result"]
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    x = np.column_stack(list(features.values()))
    s = StandardScaler().fit(x)
    ref = LogisticRegression(tol=1e-10, max_iter=10000).fit(s.transform(x), target)
    coef = ref.coef_[0] / s.scale_
    icept = ref.intercept_[0] - coef @ s.mean_
    got = np.array(result["coefficients"])
    print("rel", np.abs(got - coef) / np.abs(coef).clip(1e-9), "icept", result["intercept"], icept)
    print("rel norm (std units)", np.abs((got - coef) * s.scale_).max(), np.abs(coef*s.scale_).max())
    print(result["converged"], result["rows"])
    for rank, r in enumerate(reports):
        print(r.rounds, plan.cost.rounds, r.sent, sum(plan.cost.sent[rank]), r.dealt, plan.cost.dealt_to[rank], r.output_digest, r.seconds)
    print(reports[0].statement)
    one = case(tmp_path, tables, dict.fromkeys(OWNERS, terms), "count-and-mean")
    reports = run(one)
    result = json.loads(reports[0].result)["result"]
    full = np.column_stack([x, target])
    print("mean", np.abs(np.array(result["mean"]) / full.mean(0) - 1).max(), "var", np.abs(np.array(result["variance"]) / full.var(0, ddof=1) - 1).max(), reports[0].rounds)
