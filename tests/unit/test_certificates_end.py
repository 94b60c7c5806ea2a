"""A certificate that ends is told of in time: in an agreement, at a daemon, by the doctor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mpcpriv.agreement.certificates import outlived
from mpcpriv.agreement.toml import write_agreement
from mpcpriv.cli import commands
from mpcpriv.party.config import create
from mpcpriv.party.daily import ending
from mpcpriv.transport.tls import save_identity, self_signed
from tests.unit import agreements

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(commands, arguments, catch_exceptions=False)
    return done.exit_code, " ".join(done.output.split())


def test_an_agreement_that_outlives_a_certificate_is_warned_of(tmp_path: Path) -> None:
    content = agreements.content()
    ends = [self_signed(member["name"], days=30).certificate for member in content["members"]]
    until = min(one.not_after for one in ends)
    for member, certificate in zip(content["members"], ends, strict=True):
        member["certificate"] = certificate.pem.decode()
    start = until - timedelta(days=20)
    fits = agreements.agreement(**{**content, "valid_from": start, "valid_until": until})
    assert outlived(fits) == []
    longer = agreements.agreement(
        **{**content, "valid_from": start, "valid_until": until + timedelta(days=2)}
    )
    assert [one.split(":")[0] for one in outlived(longer)] == [
        f"certificate of {name}" for name in agreements.MEMBERS
    ]
    for agreement, warned in ((fits, False), (longer, True)):
        path = tmp_path / f"{warned}.toml"
        write_agreement(agreement, path)
        status, said = run("agreement", "check", str(path))
        assert status == 0
        assert ("warning: certificate of alice: ends on" in said) is warned


def test_certificates_that_end_within_thirty_days() -> None:
    soon, late, over = (
        self_signed(name, days=days, now=NOW).certificate
        for name, days in (("soon", 29), ("late", 31), ("over", 1))
    )
    assert [one.split(";")[0] for one in ending([soon, late, over], NOW + timedelta(days=2))] == [
        f"the certificate of soon ends on {soon.not_after:%Y-%m-%d}",
        f"the certificate of late ends on {late.not_after:%Y-%m-%d}",
        f"the certificate of over ended on {over.not_after:%Y-%m-%d}",
    ]
    assert [one.split()[3] for one in ending([soon, late], NOW)] == ["soon"]


@pytest.mark.parametrize(("days", "warned"), [(20, True), (40, False)])
def test_the_doctor_looks_at_a_partys_certificate(tmp_path: Path, days: int, warned: bool) -> None:
    party = create(tmp_path, "alice")
    for file in (party.key, party.certificate):
        file.unlink()
    save_identity(self_signed("alice", days=days), party.certificate, party.key)
    status, said = run("doctor", "--config", str(party.path))
    assert status == 0
    assert "alice's, until" in said
    assert ("soon" in said and "a new version" in said) is warned
