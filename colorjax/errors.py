"""The one exception that a user's mistake raises."""


class UserError(Exception):
    """A call that is wrong in a way its caller can mend.

    The message is one sentence that says what is wrong and how to mend it. Every command prints
    it without a traceback and exits with status 2; from Python it is an ordinary exception.
    """


class TrainingError(Exception):
    """A run that can't go on, such as one whose loss is not finite; exit status 1."""
