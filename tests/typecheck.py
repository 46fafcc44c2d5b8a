"""How the tests check annotations, shapes included: it wraps every function of peftlab as that is imported."""

import functools

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do where a float is asked for
DISABLED = jaxtyping.config.jaxtyping_disable  # as it was before any drawing: two threads may draw at once


def unchecked(write):
    """Draw a whole task without checks of annotations, which take as long: the tests of single images have them on."""

    @functools.wraps(write)
    def written(*args, **kwargs):
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            return write(*args, **kwargs)
        finally:
            jaxtyping.config.update("jaxtyping_disable", DISABLED)

    return written
