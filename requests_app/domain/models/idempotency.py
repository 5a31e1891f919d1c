from django.db import models

from requests_app.domain.models.people import User


class IdempotencyKey(models.Model):
    """A one-time value that came with what somebody asked for, and what that came to: asked again, it is the same.

    Written in the transaction of what it is about, never changed, and deleted after some days.
    """

    person = models.ForeignKey(User, models.PROTECT, db_index=False, related_name="+")
    key = models.CharField(max_length=64)
    # Of everything that was asked for, and of what kind it is.
    digest = models.CharField(max_length=64)
    # The code of a request, the public id of an extension, the number of an event.
    result = models.CharField(max_length=64)
    made_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["person", "key"], name="idempotency_key_once")]
        indexes = [models.Index(fields=["made_at"], name="idempotency_key_old")]

    def __str__(self) -> str:
        return f"{self.result} for {self.person_id}"
