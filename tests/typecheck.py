"""How the tests check annotations, shapes included: it wraps every function of peftlab as that is imported."""

import contextlib

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do where a float is asked for
DISABLED = jaxtyping.config.jaxtyping_disable  # as it was before any drawing: two threads may draw at once


@contextlib.contextmanager
def unchecked():
    """Whole tasks are drawn without checks of annotations, which take as long; tests of single images have them on."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", DISABLED)
