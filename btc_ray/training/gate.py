"""May a new model take an old one's place? The rule, and the words for it."""

from collections.abc import Mapping
from typing import Any

SIGNIFICANT = 0.05


def decide(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """`decision` promote or keep, and `reason`, from a comparison of both models on the same held-out groups.

    The new model is promoted where it is right more often, the 95 % interval of the difference (by group) is above zero, and
    McNemar's exact test agrees. Otherwise the champion stays: a difference that chance explains is no reason to change.

    Args:
        comparison: `images`; `difference`, challenger's accuracy less the champion's, as `value`, `low`, `high`; `p_value` of
            McNemar's test.
    """
    difference, p_value = comparison["difference"], comparison["p_value"]
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return {"decision": "keep", "reason": f"too few held-out groups to tell: {difference['reason']}"}
    figures = (
        f"the new model's accuracy differs from the champion's by {difference['value']:+.4f} on {comparison['images']:,} held-out "
        f"images (95 % interval {low:+.4f} to {high:+.4f}, McNemar p = {p_value:.3g})"
    )
    if low > 0 and p_value < SIGNIFICANT:
        return {"decision": "promote", "reason": f"better: {figures}"}
    if high < 0 and p_value < SIGNIFICANT:
        return {"decision": "keep", "reason": f"worse: {figures}"}
    return {"decision": "keep", "reason": f"chance alone may explain it: {figures}"}
