"""Errors that a person can act on. Each message says the value, the place and the way out in one sentence."""

from __future__ import annotations


class SaebiasError(Exception):
    """An expected failure: the command line prints it as one line and exits with code 2."""


class ConfigError(SaebiasError):
    """A configuration key or value is wrong."""


class InputError(SaebiasError):
    """Data handed in by the user (file, column, row, array) cannot be used."""


class NotEnoughData(InputError):
    """The data lack what one analysis needs (a class, a context, a language): it is left out and said, the others go on."""


class BadRows(InputError):
    """Rows of activations are NaN, infinite or all zero."""


class StoreError(SaebiasError):
    """Something on disk is missing, damaged, or held by somebody else."""


class ModelError(SaebiasError):
    """A model cannot be found, loaded or used as asked."""


class MissingParent(SaebiasError):
    """A stage was asked for whose inputs have not been made yet."""
