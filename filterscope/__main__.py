"""`python -m filterscope`, and the command: listens to Ctrl-C before anything that takes time is imported."""

from typing import NoReturn

from filterscope import interrupts


def main() -> NoReturn:
    """Entry point of the command."""
    interrupts.listen()
    try:
        from filterscope import cli
    except BaseException:
        if interrupts.was_interrupted():
            interrupts.end_now()
        raise
    cli.main()


if __name__ == "__main__":
    main()
