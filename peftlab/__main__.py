"""`python -m peftlab` is the `peftlab` command."""

import sys

from .cli import main

sys.exit(main())
