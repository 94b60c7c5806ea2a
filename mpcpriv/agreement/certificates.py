"""Whether the members' certificates live as long as their agreement."""

from __future__ import annotations

from cryptography import x509

from mpcpriv.agreement.model import Agreement


def outlived(agreement: Agreement) -> list[str]:
    """By which certificates the agreement ends in practice before `valid_until`; one sentence each.

    A certificate stands in the agreement, so a new one needs a new version that all sign.
    """
    found = []
    for member in agreement.members:
        (certificate,) = x509.load_pem_x509_certificates(member.certificate.encode())
        end = certificate.not_valid_after_utc
        if end < agreement.valid_until:
            found.append(
                f"certificate of {member.name}: ends on {end:%Y-%m-%d}, before the agreement does, on "
                f"{agreement.valid_until:%Y-%m-%d}; no job can run after that day. Let the agreement end "
                "sooner, or begin with newer certificates"
            )
    return found
