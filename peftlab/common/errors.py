"""The errors that peftlab raises on purpose. Each message names the file or value and the fix."""

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches


class PeftlabError(ValueError):
    """Anything a user can fix; the command line prints it without a traceback."""


class DataError(PeftlabError):
    """A data file or folder is missing, damaged or not in the expected layout."""


class NotMergeable(PeftlabError):
    """The method's change cannot be written into plain weights; the message says why."""


def hint(word: object, choices: Collection[str]) -> str:
    """The choices close to an unknown word, where there are any.

    >>> hint("lore", ["ssf", "lora"]), hint("prompt", ["ssf", "lora"])
    ("; did you mean 'lora'?", '.')
    """
    close = get_close_matches(str(word), list(choices), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else "."


def near(word: object, choices: Collection[str]) -> str:
    """The end of a message about an unknown word: the choices close to it, where there are any, and all of them.

    >>> near("lore", ["ssf", "lora"])
    "; did you mean 'lora'? Known: lora, ssf"
    """
    return f"{hint(word, choices)} Known: {', '.join(sorted(choices))}"


def check_choice(kind: str, value: object, known: Collection[str]) -> None:
    """Raise PeftlabError, with the near names, unless the value is one of the known ones. kind: the word for it.

    >>> check_choice("method", "lora", ["ssf", "lora"])
    >>> check_choice("method", "prompt", ["ssf", "lora"])
    Traceback (most recent call last):
    peftlab.common.errors.PeftlabError: unknown method 'prompt'. Known: lora, ssf
    """
    if value not in known:
        raise PeftlabError(f"unknown {kind} {value!r}{near(value, known)}")


def check_at_least(name: str, value: float | None, lowest: float) -> None:
    """Raise PeftlabError for a number below the lowest that means something. None, where it is allowed, passes.

    >>> check_at_least("rank", 0, 1)
    Traceback (most recent call last):
    peftlab.common.errors.PeftlabError: rank is 0, but must be at least 1
    """
    if value is not None and value < lowest:
        raise PeftlabError(f"{name} is {value}, but must be at least {lowest}")


@contextmanager
def located(where: object) -> Iterator[None]:
    """Within, the message of a PeftlabError begins with where it happened.

    >>> with located("grid.yaml"):
    ...     check_at_least("rank", 0, 1)
    Traceback (most recent call last):
    peftlab.common.errors.PeftlabError: grid.yaml: rank is 0, but must be at least 1
    """
    try:
        yield
    except PeftlabError as error:
        raise type(error)(f"{where}: {error}") from error.__cause__


def in_one_line(error: BaseException) -> str:
    """The error of a library as part of a message.

    >>> in_one_line(KeyError("a\\nb"))
    "KeyError: 'a\\\\nb'"
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@dataclass(frozen=True)
class Range:
    """The finite numbers from `at_least` on, or above `above`, and below `below`.

    >>> rate = Range(at_least=0, below=1)
    >>> str(rate), 0 in rate, 1 in rate, float("nan") in rate
    ('at least 0 and below 1', True, False, False)
    """

    at_least: float = -math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, number: float) -> bool:
        return self.at_least <= number and self.above < number < self.below  # never true of NaN

    def __str__(self) -> str:
        bounds = {"at least": self.at_least, "greater than": self.above, "below": self.below}
        return " and ".join(f"{words} {n}" for words, n in bounds.items() if math.isfinite(n)) or "finite"

    def check(self, name: str, number: float | None) -> None:
        """Raise PeftlabError for a number that does not lie in the range. None, where it is allowed, passes."""
        if number is not None and number not in self:
            raise PeftlabError(f"{name} is {number}, but must be {self if number in Range() else 'finite'}")


def check_index(name: str, index: int | None, length: int) -> None:
    """Raise PeftlabError for a place that a list of this length does not have, counted from either end.

    >>> check_index("layer", -1, 6), check_index("head", None, 6)
    (None, None)
    """
    Range(at_least=-length, below=length).check(name, index)


SEEDS = Range(at_least=0, below=2**63)  # what torch and numpy both take
