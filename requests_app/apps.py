from django.apps import AppConfig
from django.db.models.signals import post_migrate


class RequestsAppConfig(AppConfig):
    name = "requests_app"
    verbose_name = "Daypass"

    def ready(self) -> None:
        from requests_app.domain import database

        post_migrate.connect(database.after_migrate, sender=self)
