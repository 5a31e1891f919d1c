from django.db import models


class Attempts(models.Model):
    """How often something was guessed at lately: one row for whatever is counted, which is known by a hash alone.

    What people type as their name is often a password.
    """

    bucket = models.CharField(max_length=64, unique=True)
    used = models.PositiveIntegerField()
    begun_at = models.DateTimeField()
    next_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["begun_at"], name="attempts_old")]

    def __str__(self) -> str:
        return f"{self.used} since {self.begun_at:%H:%M:%S}"


class UsedStep(models.Model):
    """The newest time step of which a code of somebody's app was taken: none is taken of it or before it again."""

    person = models.BigIntegerField(unique=True)
    step = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.step} of {self.person}"
