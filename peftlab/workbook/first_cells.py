"""An extension of IPython: a cell that runs before the lesson's first cells says so, in place of a bare NameError.

Kernels of `peftlab lab` load it (jupyter/kernels/python3). After a restart nothing is defined, and a reader who goes
on in the middle of a lesson sees what to do.
"""

from types import TracebackType

from IPython.core.interactiveshell import InteractiveShell

ADVICE = (
    "Run the first cells first: this kernel has just started and knows nothing of the lesson yet.\n"
    "Choose Run > Run All Above Selected Cell, then run this cell again."
)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What IPython calls when it loads the extension."""
    shell.set_custom_exc((NameError,), explain)


def explain(
    shell: InteractiveShell,
    kind: type[NameError],
    error: NameError,
    traceback: TracebackType,
    tb_offset: int | None = None,
) -> None:
    """Show a NameError, with advice in place of its traceback while `pl`, which first cells import, is not there."""
    if "pl" not in shell.user_ns:
        error._render_traceback_ = lambda: [f"{kind.__name__}: {error}", ADVICE]  # type: ignore[attr-defined]
    shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)
