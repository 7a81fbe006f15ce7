from __future__ import annotations

import pytest

from gateway.core.errors import (
    ConfigError,
    FieldgateError,
    ForkError,
    IntegrityError,
    LinkError,
    Problem,
    ProfileError,
    RejectedError,
    TransientError,
    UplinkRejected,
    UplinkUnavailable,
)
from gateway.ledger.grammar import FormatError


def test_a_problem_says_where_and_what() -> None:
    assert str(Problem("a.toml", 3, "api.listen", "no port")) == "a.toml:3: api.listen: no port"
    assert str(Problem("a.toml", 0, "", "is missing")) == "a.toml: is missing"


@pytest.mark.parametrize("error", [ConfigError, ProfileError])
def test_every_problem_is_reported_at_once(error: type[ConfigError | ProfileError]) -> None:
    problems = [Problem("a", 1, "k", "x"), Problem("a", 2, "l", "y")]
    raised = error(problems)
    assert raised.problems == problems
    assert str(raised) == "a:1: k: x; a:2: l: y"


@pytest.mark.parametrize(
    ("error", "reaction"),
    [
        (LinkError, TransientError),
        (UplinkUnavailable, TransientError),
        (UplinkRejected, RejectedError),
        (ProfileError, RejectedError),
        (FormatError, RejectedError),
        (FormatError, ValueError),
        (ForkError, IntegrityError),
        (ConfigError, FieldgateError),
    ],
)
def test_errors_are_classed_by_reaction(error: type[Exception], reaction: type[Exception]) -> None:
    assert issubclass(error, reaction)
