"""The command line: thin over the library's own functions."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence

from ..errors import PersamError, RunStoppedError
from .parser import build_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 where it ran but found every photo or a checkpoint bad; 2 where something that was
        given, or the machine, kept it from running, with one line on stderr; 130 after Ctrl-C or
        `runs stop`.
    """
    options = build_parser().parse_args(arguments)
    # Where other programs want the processor too, torch's threads would spin while they wait for
    # each other: ten times slower on two busy cores. Read when torch is imported, so set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _heed_interrupts()
    try:
        return int(options.command(options) or 0)
    except KeyboardInterrupt:
        print("stopped: what is finished is kept, see `runs resume`", file=sys.stderr)
        return 130
    except RunStoppedError as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 130
    except Exception as error:
        if not _is_expected(error):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _heed_interrupts() -> None:
    """Let SIGINT end the command, as Ctrl-C does.

    A shell that starts a program in the background, and job runners, have it ignored; the program
    inherits that, and could only be killed.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may change it
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_expected(error: Exception) -> bool:
    """Whether a traceback would tell nobody anything: bad input, disk, network, database."""
    if isinstance(error, (PersamError, OSError)):
        return True
    return type(error).__module__.startswith(("fiftyone.core.service", "pymongo."))


if __name__ == "__main__":
    sys.exit(main())
