"""``python manage.py szal_worker``: ``szal worker`` under a name of its own, as deployments list what they run."""

from szal.contrib.django.management.command import SzalCommand

__all__ = ["Command"]


class Command(SzalCommand):
    """Runs what the project submits, and what was interrupted."""

    help = "Run what the project submits, until it is stopped: python manage.py szal_worker --help"
    begins_with = ("worker",)
