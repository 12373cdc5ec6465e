"""``clusterctl``: runs the command line, and leaves without waiting for anything."""

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process and end it.

    What is left open (channels, threads that read streams) holds nothing that is worth the time
    of closing it in order: the process just ends.
    """
    # gRPC's own log tells of every connection that ends; we tell what matters of that.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from clusterctl.cli import FAILED, cli

    code: object = FAILED
    try:
        cli.main(prog_name="clusterctl")
    except SystemExit as end:
        code = end.code
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = code or FAILED
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
