"""`python -m fastlog.cli`, the same as `fastlog`."""

from fastlog.cli.group import main

main()
