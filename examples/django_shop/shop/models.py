"""Orders, and what was paid for them."""

from django.db import models


class Order(models.Model):
    """What somebody has ordered."""

    article = models.CharField(max_length=100)
    euros = models.DecimalField(max_digits=8, decimal_places=2)
    state = models.CharField(max_length=20, default="new")

    @property
    def execution_id(self) -> str:
        """The id of its flow."""
        return f"order-{self.pk}"


class Payment(models.Model):
    """Money that has moved."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE)
    euros = models.DecimalField(max_digits=8, decimal_places=2)
