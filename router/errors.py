"""Errors, named by what the catcher must do next."""

import inspect


class RouterError(Exception):
    """Something this package raises on purpose."""

    def __init__(self, message: str = "") -> None:
        """Say *message*, or, where there is none, what the class means."""
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or ""))


class ConfigError(RouterError):
    """The settings do not describe a router that can run: exit 78."""


class Unavailable(RouterError):
    """A service this command needs is not there: exit 69."""


class Refused(RouterError):
    """The sender must change something: answer *status*, store nothing."""

    def __init__(self, message: str = "", *, status: int = 400) -> None:
        """Carry the HTTP *status* that tells the sender so."""
        super().__init__(message)
        self.status = status


class Transient(RouterError):
    """The same call may work later: retry all of it, bury nothing."""


class Poison(RouterError):
    """This item can never succeed: bury it and go on."""


class Malformed(Poison):
    """The body is not the JSON that the contract reads."""


class QueueFull(Transient):
    """The queue has no room and was told not to wait."""


class QueueClosed(RouterError):
    """The queue is closed: nothing goes in, and nothing is left to come out."""


class WorkerGaveUp(RouterError):
    """A worker spent its restart budget: end the process."""
