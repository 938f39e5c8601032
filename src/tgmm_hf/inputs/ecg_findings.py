"""Hold what the checks of an ECG found."""

from dataclasses import dataclass, field


@dataclass
class LeadFindings:
    """What the checks found in one recording.

    Attributes:
        checks (`list[dict]`): findings with `code`, `item` ("ecg" or "ecg.V6") and `text`.
        unusable (`dict[str, str]`): lead -> why it is not used.
    """

    checks: list[dict[str, str]] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)

    def add(self, code: str, lead: str | None, text: str) -> None:
        """Add a finding to `checks`: about one lead, or about the whole recording if `lead` is None."""
        self.checks.append({"code": code, "item": f"ecg.{lead}" if lead else "ecg", "text": text})

    def put_out(self, code: str, lead: str, reason: str) -> None:
        """Add a finding to `checks` about a lead that is not used, and the lead with the reason to `unusable`."""
        self.add(code, lead, f"lead {lead} is not used: it {reason}")
        self.unusable.setdefault(lead, reason)

    def has(self, *codes: str) -> bool:
        """Tell whether `checks` has a finding with one of the codes."""
        return any(check["code"] in codes for check in self.checks)
