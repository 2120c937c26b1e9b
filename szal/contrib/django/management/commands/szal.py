"""``python manage.py szal``: the command line of szal."""

from szal.contrib.django.management.command import SzalCommand

__all__ = ["Command"]


class Command(SzalCommand):
    """All of szal's commands."""

    help = "Run flows, and look at what they did: python manage.py szal --help"
