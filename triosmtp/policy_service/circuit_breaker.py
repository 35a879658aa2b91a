"""The circuit breaker: what does not answer is asked only now and then."""

__all__ = ["CircuitBreaker", "NoAnswerError"]


class NoAnswerError(Exception):
    """Nobody gave an answer that can be applied; the text says why."""


class CircuitBreaker:
    """Counts time-outs in a row.  After ``timeouts`` of them it is open: one question each ``seconds`` is let through.

    Times are on Trio's clock.
    """

    def __init__(self, timeouts: int, seconds: float) -> None:
        self._timeouts = timeouts
        self._seconds = seconds
        self._in_row = 0
        self._probe_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether there were so many time-outs in a row."""
        return self._in_row >= self._timeouts

    def admit(self, now: float) -> None:
        """Let a question through.

        :raises NoAnswerError: if the breaker is open, and it is too early for another probe.
        """
        if self.is_open:
            if now < self._probe_at:
                raise NoAnswerError(f"the circuit breaker is open after {self._in_row} time-outs in a row")
            self._probe_at = now + self._seconds  # this question is the probe

    def record_timeout(self, asked: float) -> None:
        """Count the time-out of a question that was asked at ``asked``."""
        self._in_row += 1
        self._probe_at = max(self._probe_at, asked + self._seconds)

    def record_answer(self) -> None:
        """Close: there was an answer."""
        self._in_row = 0

    def allow_probe(self) -> None:
        """Let one more time-out open the breaker, not fewer: somebody new may answer."""
        self._in_row = min(self._in_row, self._timeouts - 1)
