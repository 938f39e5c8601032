"""Write what a check of a lab row found."""

Finding = dict[str, str]
"""`code`, `item` and `text`."""


def lab_finding(code: str, column: str, text: str) -> Finding:
    """Write a finding about a cell.

    Args:
        code: code of the check, such as "labs_body_mass".
        column: name of the cell's column.
        text: what was found, and what to do.
    """
    return {"code": code, "item": f"labs.{column}", "text": text}


__all__ = ["Finding", "lab_finding"]
