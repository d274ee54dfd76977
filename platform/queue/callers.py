"""Callers: whether a verb is called with what it takes, and in the name of somebody, before it does anything.

Not every caller has a type checker. What is no id, no text, no moment would be found by the driver or by the database,
in words that name neither the verb nor the parameter, and the caller's transaction would be lost with it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from jobplatform.errors import InvalidJobError, Problem
from jobplatform.queue.kinds import kinds_of, problems_of

P = ParamSpec("P")
T = TypeVar("T")

#: An error that lists problems by their paths.
Refusal = Callable[[Sequence[Problem]], Exception]


def checks_arguments(refusal: Refusal = InvalidJobError) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """The verb, which looks at each of its arguments by the annotation of its parameter, and raises a ``refusal`` that
    names every one that is wrong: before it does anything, so that the caller's transaction is as it was.

    The text of an id is read, and what can be walked through once is made a list. How long a text may be and what fits
    together is said by the verb.
    """

    def decorate(verb: Callable[P, T]) -> Callable[P, T]:
        names = tuple(inspect.signature(verb).parameters)
        known = inspect.unwrap(verb).__globals__
        kinds = kinds_of(dict(_annotations_of(verb, known)), known)

        @functools.wraps(verb)
        def checking(*args: P.args, **kwargs: P.kwargs) -> T:
            # What is missing, said twice or unknown Python itself refuses at the call.
            said = dict(zip(names, args, strict=False)) | kwargs
            read = {name: kinds[name].read(value) if name in kinds else value for name, value in said.items()}
            if problems := list(problems_of(read, kinds)):
                raise refusal(problems)
            in_order = (*(read[name] for name in names[: len(args)]), *args[len(names) :])
            return verb(*in_order, **{name: read[name] for name in kwargs})  # type: ignore[arg-type]  # they are P's

        return checking

    return decorate


def _annotations_of(verb: Callable[..., Any], known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Those of the parameters, with each of the options that a ``TypedDict`` lists."""
    for name, parameter in inspect.signature(verb).parameters.items():
        annotation = str(parameter.annotation)
        if annotation.startswith("Unpack["):
            options = known[annotation[7:-1]].__annotations__
            yield from ((option, said.__forward_arg__) for option, said in options.items())
        elif parameter.kind is not parameter.VAR_KEYWORD:
            yield name, annotation
