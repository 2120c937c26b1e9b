"""A flow whose module imports a model, as that of an application does."""

import szal
from django_site.models import Note

flow = szal.Flow("isolated", isolation="process")


@flow.step
def notes() -> int:
    """Write a note, and tell how many there are."""
    Note.objects.create(text="isolated")
    return Note.objects.count()
