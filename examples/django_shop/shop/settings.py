"""The least that a project needs: szal is installed as an application, and told which flows there are."""

import os
from pathlib import Path

SECRET_KEY = os.environ.get("SECRET_KEY", "only on this machine")
DEBUG = True
INSTALLED_APPS = ["szal.contrib.django", "shop"]
MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]
ROOT_URLCONF = "shop.views"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP", Path(__file__).parents[1] / "shop.sqlite3"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},  # who writes waits for the others, and never fails for them
        "ATOMIC_REQUESTS": True,  # an order and its flow: both, or neither
    }
}
SZAL = {"FLOWS": ["shop.flows.order"], "RECOVER_EVERY": None}  # workers take up what others have left
