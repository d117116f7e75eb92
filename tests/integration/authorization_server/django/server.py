"""Runs django-oauth-toolkit as a second authorization server for the tests.

    python server.py FOLDER

The folder is for its database. It says `ready PORT` when it answers, and ends
when its standard input does. It issues client credentials tokens under
/o/token/, and introspects under /o/introspect/.
"""

import os
import sys
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.urls import include, path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(sys.argv[1], "db")}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    LOGGING_CONFIG=None,
    OAUTH2_PROVIDER={
        "ACCESS_TOKEN_EXPIRE_SECONDS": 3600,
        "SCOPES": {"scistream": "streams", "other": "something else", "introspection": "other people's tokens"},
    },
    # A fast one: the secrets are no secrets.
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.urandom(32).hex(),
    USE_TZ=True,
)
django.setup()

urlpatterns = [path("o/", include("oauth2_provider.urls"))]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def end_with_standard_input():
    sys.stdin.read()
    os._exit(0)


def main():
    call_command("migrate", verbosity=0)
    from oauth2_provider.models import Application

    for name in ("gateway", "tests"):
        Application.objects.create(
            name=name,
            client_id=name,
            client_secret=f"the-secret-of-the-{name}",
            client_type=Application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
        )
    server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    print("ready", server.server_port, flush=True)
    server.serve_forever()


main()
