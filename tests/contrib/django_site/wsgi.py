"""What a server loads, before it forks its workers: it makes the tables first."""

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections

application = get_wsgi_application()
call_command("migrate", run_syncdb=True, verbosity=0)
connections.close_all()
