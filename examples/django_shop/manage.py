"""Orders, payments and deliveries: a Django project. Alone, this makes its database, and serves it.

pip install "szal[django,web]"
python examples/django_shop/manage.py                  then open http://localhost:8000 in a browser, and /szal/
python examples/django_shop/manage.py szal_worker      in another terminal, once or several times

The server takes orders, each together with its flow in one transaction; workers do what belongs to them. Kill one with
kill -9 in the middle of an order: another one goes on with it, and nobody has paid twice. Others list and show what
there is, or run it again.

python examples/django_shop/manage.py szal list
"""

import os
import sys

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    if len(sys.argv) == 1:
        execute_from_command_line([sys.argv[0], "migrate", "--run-syncdb", "--verbosity=0"])
        sys.argv += ["runserver", os.environ.get("PORT", "8000")]
    execute_from_command_line(sys.argv)
