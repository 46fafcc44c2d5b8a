"""The errors that peftlab raises on purpose. Each message names the file or value and the fix."""


class PeftlabError(ValueError):
    """Anything a user can fix; the command line prints it without a traceback."""


class DataError(PeftlabError):
    """A data file or folder is missing, damaged or not in the expected layout."""


class NotMergeable(PeftlabError):
    """The method's change cannot be written into plain weights; the message says why."""


def near(word, choices):
    """'; did you mean "lora"?' when a choice is close, and the whole list in any case."""
    from difflib import get_close_matches

    close = get_close_matches(str(word), list(choices), n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
    return f"{hint} Known: {', '.join(sorted(choices))}"


def check_choice(kind, value, known):
    """Raise PeftlabError, with the near names, unless the value is one of the known ones. kind: the word for it."""
    if value not in known:
        raise PeftlabError(f"unknown {kind} {value!r}{near(value, known)}")
