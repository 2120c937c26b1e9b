"""What Django's test runner runs: the test of szal.contrib.django that runs it says why."""

from django.test import TransactionTestCase

from django_site.models import Note
from szal.contrib.django import close, engine


class InATest(TransactionTestCase):
    """The database is that of the test, and is dropped at its end."""

    def tearDown(self) -> None:
        """Let go of the database."""
        close()

    def test_a_request_starts_a_flow(self) -> None:
        """It is begun, and ends, as in production."""
        self.client.post("/counts/a", headers={"Host": "szal"})
        assert engine().result("a", timeout=30).outputs == {"counted": 1}
        assert Note.objects.count() == 2
