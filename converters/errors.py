"""The errors that a user can mend, as a tree. The lowest module: it imports nothing of ours.

    FilterscopeError            the user can mend it: one line, exit code 2
    ├── ModelError              the model file: unreadable, unsafe, no CNN
    │   ├── UnsupportedOperatorError   a node that cannot be computed, or not imported into torch
    │   ├── LimitError          the file asks for more than any network needs: it is refused as a whole
    │   └── ParityError         the import disagrees with the original
    ├── InputError              the network's input or the user's images
    ├── SettingsError           an option, a layer or a channel that does not fit
    └── RunError                the folder of a run

A message is one line: where, what, and what to do next. It names settings as `setting` writes them; the command line
alone prints it, and shows them as its options.
"""

from __future__ import annotations

from dataclasses import dataclass

STILL_LISTED = "; `filterscope inspect` still lists the layers"


@dataclass(frozen=True, slots=True)
class Convolution:
    """Facts about a convolution from its node and weights; empty or None where they do not tell."""

    name: str
    op: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    groups: int
    in_channels: int | None
    out_channels: int | None
    parameters: int | None


def setting(name: str, value: object = None) -> str:
    """A setting in a message: `input_size` or `input_size=64x64`, between backticks, named as the Python API names it.

    The command line shows it as the option of that name.
    """
    return f"`{name}`" if value is None else f"`{name}={value}`"


class FilterscopeError(Exception):
    """Something the user can mend. Its text is one line: where, what, what next."""

    __module__ = "filterscope"  # its public name


class ModelError(FilterscopeError):
    """The model cannot be read, is not safe to read, or is not what this program analyses."""


class UnsupportedOperatorError(ModelError):
    """A node whose operator has no converter into torch, or that cannot be computed here.

    Args:
        message: the line for the user.
        convolutions: what is known of the network's convolutions, although it cannot be opened.
    """

    def __init__(self, message: str, convolutions: tuple[Convolution, ...] = ()) -> None:
        super().__init__(message)
        self.convolutions = convolutions

    def beside_the_layers(self) -> UnsupportedOperatorError:
        """The same error for a reader who sees the list of layers already, without the advice to list them."""
        listed = "; the network's layers are listed, and cannot be analysed"
        return UnsupportedOperatorError(str(self).replace(STILL_LISTED, listed), self.convolutions)


class LimitError(ModelError):
    """The file would take more memory or time than any network that we know; no part of it is tried."""


class ParityError(ModelError):
    """Two forms of one network disagree by more than the limit."""


class InputError(FilterscopeError):
    """The network's input cannot be understood, or an image cannot be read."""


class SettingsError(FilterscopeError):
    """A setting that does not fit the network or another setting, such as a layer or a channel that it does not have.

    Args:
        message: the line for the user.
        field: the setting, as the Python API names it; empty where it is no single one.
        value: what it was set to.
    """

    def __init__(self, message: str, field: str = "", value: object = None) -> None:
        super().__init__(message)
        self.field = field
        self.value = value

    def __reduce__(self) -> tuple[type[SettingsError], tuple[str, str, object]]:
        return type(self), (str(self), self.field, self.value)


class RunError(FilterscopeError):
    """The folder is not a run, belongs to another plan, or cannot be written."""
