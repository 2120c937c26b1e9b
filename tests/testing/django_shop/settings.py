"""Where its database is, the environment says; its tests have SQLite's in memory, or PostgreSQL's as it is."""

from django_site.settings import *  # noqa: F403
from django_site.settings import DATABASES

INSTALLED_APPS = ["szal.contrib.django", "django_shop"]
ROOT_URLCONF = "django_shop.views"
SZAL = {"FLOWS": ["django_shop.flows.order"], "ENGINE": {"durability": "step", "max_concurrency": 1}}
if DATABASES["default"]["ENGINE"].endswith("postgresql"):
    DATABASES["default"]["TEST"] = {"NAME": DATABASES["default"]["NAME"]}
