from django.db import models
from django.db.models.functions import Now

from requests_app.domain.models.people import User


class FactorDemand(models.Model):
    """Since when a second factor is demanded of somebody: from then on they have the period of grace, once."""

    person = models.OneToOneField(User, models.PROTECT, primary_key=True, related_name="+")
    since = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.person} since {self.since:%Y-%m-%d}"
