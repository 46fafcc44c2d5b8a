"""Steps timed in turns: whatever else the machine does falls on all of them alike."""

import random
import statistics
import time

import torch

from peftlab.backbones import input_size
from peftlab.progress import progress


def paired(steps, rounds):
    """{name: seconds of each round}; every round takes each step once, in random order."""
    taken, order = {name: [] for name in steps}, list(steps)
    for step in steps.values():
        step()
    for _ in progress(range(rounds), desc="rounds"):
        random.shuffle(order)
        for name in order:
            began = time.perf_counter()
            steps[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken[name].append(time.perf_counter() - began)
    return taken


def ratio(taken, numerator, denominator):
    """Quartiles of the ratios within rounds."""
    return statistics.quantiles(
        [a / b for a, b in zip(taken[numerator], taken[denominator], strict=True)], n=4, method="inclusive"
    )


def setting(backbone, batch_size, device):
    """One line: what was measured, and where."""
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    return f"{backbone.peftlab_name}, {input_size(backbone)[0]} px, batches of {batch_size}, {where}"
