"""Where its database is, the environment says."""

import os
from urllib.parse import unquote, urlsplit

_URL = urlsplit(os.environ["DATABASE"])

SECRET_KEY = "no secret"
DEBUG = False
ALLOWED_HOSTS = ["szal"]
INSTALLED_APPS = ["szal.contrib.django", "django_site"]
ROOT_URLCONF = "django_site.urls"
WSGI_APPLICATION = "django_site.wsgi.application"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _URL.path[1:],
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 10},
        "TEST": {"NAME": f"{_URL.path[1:]}.test"},
    }
    if _URL.scheme == "sqlite"
    else {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _URL.path[1:],
        "USER": _URL.username or "",
        "OPTIONS": {key: unquote(value) for key, _, value in (each.partition("=") for each in _URL.query.split("&"))},
    }
}
DATABASES["default"]["ATOMIC_REQUESTS"] = True
SZAL = {
    "FLOWS": [f"django_site.flows.{name}" for name in ("walk", "count", "broken", "pay")],
    "RECOVER_EVERY": 0.3,
    "ENGINE": {"durability": "step", "max_concurrency": 1},
}
