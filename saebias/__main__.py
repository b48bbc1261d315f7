"""`python -m saebias` is the command `saebias`."""

from saebias.cli.main import main

main()
