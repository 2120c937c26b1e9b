"""Orders, payments and deliveries: a Django project. Alone, this makes its database, and serves it.

pip install "szal[django]"
python examples/django_shop/manage.py                  then open http://localhost:8000 in a browser

Kill it with kill -9 in the middle of an order, and begin it again: the order goes on, and nobody has paid twice. So it
does with a command, from cron say; others list and show what there is, or run it again.

python examples/django_shop/manage.py szal recover
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
