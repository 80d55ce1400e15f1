"""Every error a user can meet, as one tree.

PodfenceError
├── InputError            something given is wrong: a file, a flag, an entry in it
│   ├── CaptureError      a capture file that is none, or ends in the middle of a packet
│   ├── InventoryError    objects or events that cannot be read
│   ├── RecordingError    a folder that holds no recording, an empty one, or one of another cluster
│   └── NewerSchemaError  written by a later version than this one
├── OutputError           a folder that may not be written to, or is not empty
└── UnsupportedError      the machine lacks something: a right, a program, a kernel feature

The command line prints the message in one line and exits with 2; no other module exits.
"""


class PodfenceError(Exception):
    """Base of all errors with a message meant for the user; `str()` says what is wrong, where, and what to do."""


class InputError(PodfenceError):
    """Something the user gave is wrong."""


class CaptureError(InputError):
    """A capture file cannot be read."""


class InventoryError(InputError):
    """An inventory (objects or events) cannot be read."""


class RecordingError(InputError):
    """A recording is missing, empty, damaged, or belongs to another cluster."""


class NewerSchemaError(InputError):
    """A file was written by a later version of podfence."""


class OutputError(PodfenceError):
    """An output cannot be written without losing something."""


class UnsupportedError(PodfenceError):
    """The machine lacks a right, a program or a kernel feature."""
