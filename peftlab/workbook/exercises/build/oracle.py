"""How a build is judged: it gives the same named tensors in a small experiment as a right one."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..base import Test
from ..explain import described, raised

Found = Iterator[tuple[str, Any]]  # names and tensors, if all is right


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in double precision, the same each time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@contextmanager
def seeded() -> Iterator[None]:
    """Layers made within start alike each time, with NaN where nothing is written into torch.empty.

    The reader's own random numbers go on as they were.
    """
    mode = torch.get_deterministic_debug_mode()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.set_deterministic_debug_mode("warn")
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(mode)


def unlike(yours: Any, expected: Tensor) -> str:
    """How a tensor differs from the one expected: in kind, shape, or by more than 1e-5; "" where it does not."""
    if not isinstance(yours, Tensor):
        return f"yours is {described(yours)}, expected a tensor of shape {list(expected.shape)}"
    yours, expected = yours.detach().double(), expected.detach().double()
    if yours.shape != expected.shape:
        return f"wrong shape: yours {list(yours.shape)}, expected {list(expected.shape)}"
    error = (yours - expected).abs().nan_to_num(math.inf, math.inf, math.inf)
    if (error <= 1e-5 * (1 + expected.abs())).all():
        return ""
    worst = tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape)) if error.ndim else ()
    where = f" at {list(worst)}" if worst else ""
    size = f" (shape {list(expected.shape)}, largest error {error.max():.2g})" if expected.ndim else ""
    return f"yours {yours[worst]:.6g}{where}, expected {expected[worst]:.6g}{size}"


def built(experiment: Callable[[Any], Found], right: Any) -> Test:
    """The answer gives the same named tensors in an experiment as a right build.

    The first that differs is named and ends the experiment, which never goes on with what has another type or shape.
    """

    def explain(answer: Any) -> str:
        if not callable(answer):
            return f"yours is {described(answer)}, expected a {'class' if isinstance(right, type) else 'function'}"
        try:
            for (name, yours), (_, expected) in zip(experiment(answer), experiment(right), strict=True):
                if wrong := unlike(yours, expected):
                    return f"{name}: {wrong}"
        except NotImplementedError:
            return "not built yet: write what stands for `raise NotImplementedError`"
        except Exception as error:
            return raised(error, answer, "when tried on small tensors")
        return ""

    return Test(explain)
