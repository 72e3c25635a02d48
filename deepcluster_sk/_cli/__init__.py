"""The command ``deepcluster-sk``: a folder of images in, clusters out.

Results go to files or to standard output, everything else to standard error. Exit codes: 0 for
success, 1 for data that cannot be used, 2 for wrong usage, 130 after Ctrl-C, 141 where the reader
of standard output, such as ``head``, ended first. Ctrl-C in training ends it with the last finished
epoch, from which everything is still written; after the last epoch, it only leads to a warning.
"""

from collections.abc import Sequence
from importlib import import_module

from .console import (
    discard_output,
    flush_output,
    in_own_words,
    noticed_interrupts,
    tell,
    warnings_in_one_line,
)
from .errors import UsageError
from .parser import parse

# as shells have it: 128 and the number of the signal
_INTERRUPTED = 130
_CLOSED_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    arguments = parse(argv)
    try:
        with warnings_in_one_line(), noticed_interrupts() as interrupts:
            # only now: what a command needs takes its time
            import_module(f".{arguments.module}", __name__).run(arguments)
            flush_output()  # else a closed pipe is noticed only when Python ends
    except BrokenPipeError:
        discard_output()
        return _CLOSED_PIPE
    except UsageError as error:
        arguments.parser.print_usage_error(str(error))
    except (ValueError, OSError, MemoryError, ArithmeticError, ImportError) as error:
        tell(f"error: {in_own_words(str(error))}")
        return 1
    except KeyboardInterrupt:
        tell("interrupted")
        return _INTERRUPTED
    return _INTERRUPTED if interrupts else 0
