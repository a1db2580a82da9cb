"""Checks of the weights of a loss's terms."""

import math

from manifests.errors import InputError


def check_weight(name: str, value: float) -> None:
    """Raise InputError for a weight by which a loss could be reduced without learning anything."""
    if not 0 <= value < math.inf:
        raise InputError(f"criterion.{name}={value} must be a number of 0 or more")
