"""What requests and steps write."""

from django.db import models


class Order(models.Model):
    """An order, and what has become of it."""

    state = models.TextField(default="new")
