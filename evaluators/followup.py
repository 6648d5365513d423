"""What is owed to operators once time has passed. Pure: the caller says what time it is and what was done."""


def due(every_s: float, told_at: float, now: float, snoozed_until: float | None = None) -> bool:
    """Whether they are reminded of what nobody acknowledged: so long after they were last told, and not while it is snoozed."""
    return now >= told_at + every_s and (snoozed_until is None or now >= snoozed_until)
