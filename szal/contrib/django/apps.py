"""The application that a project installs."""

from typing import Any

from django.apps import AppConfig
from django.core.signals import request_started
from django.db.models.signals import post_migrate

from szal.contrib.application import ApplicationEngine
from szal.contrib.django.settings import settings_of, store_with
from szal.stores import open_store

__all__ = ["SzalConfig"]


class SzalConfig(AppConfig):
    """Has the engine of the project. Nothing is opened before a request comes, or somebody asks for it."""

    name = "szal.contrib.django"
    label = "szal"
    verbose_name = "szal"

    def ready(self) -> None:
        """Have each process that serves requests go on with what others have left, and ``migrate`` make the tables."""
        self.application = ApplicationEngine(settings_of)
        request_started.connect(self._serve, dispatch_uid=f"{self.name}.serve")
        post_migrate.connect(self._migrate, sender=self)

    def _serve(self, sender: Any, **_: Any) -> None:
        if not sender.__module__.startswith("django.test"):  # a test has a database of its own, which it drops
            self.application.serve()

    def _migrate(self, using: str, **_: Any) -> None:
        """Make the tables of szal's own, or bring them up to date, with those of the database *using*."""
        url = store_with(using)
        if url is not None:
            open_store(url).close()
