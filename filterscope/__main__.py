"""`python -m filterscope`."""

from filterscope.cli import main

main()
