"""What requests and steps write."""

from django.db import models


class Note(models.Model):
    """A word that somebody wrote."""

    text = models.TextField()
