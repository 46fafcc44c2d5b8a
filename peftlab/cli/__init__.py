"""The `peftlab` command: its entry point, its exit status, and what it says when it is stopped."""

import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..common.errors import PeftlabError
from ..common.paths import named_folders
from .arguments import Command, parser
from .commands import data_fetch, fit, report, say, sweep, workbook


class _Stopped(KeyboardInterrupt):
    """What a batch system or `timeout` sends, or a terminal that is closed: whatever tidies up on Ctrl-C does so."""


STOPS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has one of them


def _stop(number: int, frame: object) -> NoReturn:
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)  # `timeout` sends it twice
    raise _Stopped(number)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 done, 1 something failed or was found, 2 wrong use, 141 unread, 128 + a signal.

    argv: None takes that of this process, which then is the command, so that its signals and output are ours.
    """
    run: Command | None = None
    if argv is None:
        for number in STOPS:
            if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores one
                signal.signal(number, _stop)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # as stderr, for names in bytes that are no UTF-8
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        if any("\0" in word for word in words):
            raise PeftlabError("an argument holds a NUL byte, which no name of a file or value has. Remove it")
        os.environ.update(named_folders())  # kernels and workers start in other folders
        args = parser().parse_args(words)
        run = args.run
        status = run(args) or 0
        sys.stdout.flush()  # what nobody reads is noticed here, not when Python ends
        return status
    except PeftlabError as error:
        return say(error, 2)
    except BrokenPipeError:  # `head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is left to write
        return 141
    except OSError as error:
        where = "PEFTLAB_RUNS and PEFTLAB_CACHE move the ledger and drawn or fetched data"
        return say(
            f"{error}. Check that the folder exists, may be written to and that the disk is not full; {where}", 1
        )
    except FloatingPointError as error:
        return say(error, 1)
    except KeyboardInterrupt as stop:
        kept: dict[Command | None, str] = {data_fetch: "where the download stopped"}
        kept |= dict.fromkeys((fit, sweep, workbook, report), "from the last complete epoch")
        goes_on = f"; the same command goes on {kept[run]}" if run in kept else ""
        print(f"\npeftlab: interrupted{goes_on}", file=sys.stderr)
        return 128 + (stop.args[0] if isinstance(stop, _Stopped) else signal.SIGINT)
