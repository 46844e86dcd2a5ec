"""The console script, and `python -m charter`. Ctrl-C while modules load ends without a trace of the stack."""

import sys

try:
    from charter.cli.main import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    main()
