"""`python -m charter` is the same as `charter`."""

from charter.cli.main import main

main()
