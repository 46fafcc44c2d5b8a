"""What fits into a time budget: methods in the order given, then the choice of their learning rates; said in words."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from ..common.errors import PeftlabError

RATES = (1 / 3, 1.0, 3.0)  # times a method's own learning rate; tried on val200 where the budget allows


class Plan(NamedTuple):
    """What fits into `allowed` minutes. seconds: of a final run of each method, also of those left out."""

    seconds: Mapping[str, float]
    seeds: int
    allowed: float
    methods: list[str]
    tuned: bool
    minutes: float  # of all runs
    tuning: float  # minutes of those that choose learning rates, whether there is time for them or not


def fitting(seconds: Mapping[str, float], seeds: int, minutes: float, share: float) -> Plan:
    """What fits into so many minutes, in the order given; tuning too, where there is time for all that fit.

    seconds: of a run of each method. share: of the images that are trained on while tuning.

    >>> plan = fitting({"linear": 10, "full": 900, "lora": 60}, seeds=2, minutes=5, share=0.8)
    >>> plan.methods, plan.tuned, f"{plan.minutes:.1f}"
    (['linear', 'lora'], False, '2.3')
    """
    chosen: list[str] = []
    total = 0.0
    for name, each in seconds.items():
        if total + seeds * each <= 60 * minutes:
            chosen, total = [*chosen, name], total + seeds * each
    tuning = sum(len(RATES) * share * seconds[name] for name in chosen)
    tuned = bool(chosen) and total + tuning <= 60 * minutes
    return Plan(dict(seconds), seeds, minutes, chosen, tuned, (total + tuned * tuning) / 60, tuning / 60)


def outlook(plan: Plan) -> str:
    """What fits and what does not, in a few sentences. Raises PeftlabError where nothing does.

    >>> print(outlook(fitting({"linear": 10, "full": 900}, seeds=2, minutes=5, share=0.8)))
    linear with 2 seeds: about 1 of 5 minutes. Learning rates are chosen on val200. Left out, it would take too long: \
full (30 min).
    """
    seeds = f"{plan.seeds} seed{'s' * (plan.seeds > 1)}"
    takes = {name: plan.seeds * each / 60 for name, each in plan.seconds.items()}
    if not plan.methods:
        name = min(takes, key=lambda name: takes[name])
        raise PeftlabError(
            f"nothing fits into {plan.allowed:g} minutes: {name} with {seeds} takes {takes[name]:.1f}. Give more "
            "minutes, fewer seeds or a smaller budget"
        )
    about = f"about {math.ceil(plan.minutes)} of {plan.allowed:g} minutes"
    rates = "Learning rates are chosen on val200."
    if not plan.tuned:
        more = math.ceil(plan.tuning)
        rates = f"To choose learning rates would take {more} more: each method has its default, which may not suit it."
    out = ", ".join(f"{name} ({math.ceil(takes[name])} min)" for name in takes if name not in plan.methods)
    left = f" Left out, it would take too long: {out}." if out else ""
    return f"{', '.join(plan.methods)} with {seeds}: {about}. {rates}{left}"
