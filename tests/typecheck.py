"""How the tests check annotations, shapes included: it wraps every function of peftlab as that is imported."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do where a float is asked for
