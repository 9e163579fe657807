"""What can go wrong, as a tree. The lowest module of all: it imports nothing of ours.

    FilterscopeError            the user can mend it: one line, exit code 2
    ├── ModelError              the model file: unreadable, unsafe, no CNN
    │   ├── UnsupportedOperatorError   a node that cannot be imported into torch
    │   └── ParityError         the import disagrees with the original
    ├── InputError              the network's input or the user's images
    ├── SettingsError           an option, a layer or a channel that does not fit
    └── RunError                the folder of a run

A message is one line: where, what, and what to do next. The command line alone prints it.
"""


class FilterscopeError(Exception):
    """Something the user can mend. Its text is one line: where, what, what next."""


class ModelError(FilterscopeError):
    """The model cannot be read, is not safe to read, or is not what this program analyses."""


class UnsupportedOperatorError(ModelError):
    """A node whose operator has no converter into torch."""


class ParityError(ModelError):
    """Two forms of one network disagree by more than the limit."""


class InputError(FilterscopeError):
    """The network's input cannot be understood, or an image cannot be read."""


class SettingsError(FilterscopeError):
    """An option, a layer name or a channel that does not fit the network."""


class RunError(FilterscopeError):
    """The folder is not a run, belongs to another plan, or cannot be written."""
