"""The application of the image `rbox/flask`: counts visits in Redis, and keeps each as a row in PostgreSQL.

CACHE_HOST and DATABASE_URL say where those are, by name. The page tells both numbers and who answered."""
import contextlib
import os
import socket

import flask
import psycopg2
import redis

app = flask.Flask(__name__)
cache = redis.Redis(host=os.environ.get("CACHE_HOST", "cache"), socket_timeout=5, socket_connect_timeout=5)
DATABASE = os.environ.get("DATABASE_URL", "postgresql://postgres@db/postgres")


@app.get("/")
def visit():
    counted = cache.incr("visits")
    with contextlib.closing(psycopg2.connect(DATABASE, connect_timeout=5)) as db, db, db.cursor() as rows:
        rows.execute("SELECT pg_advisory_xact_lock(1)")  # Two first visits at once must not make the table twice.
        rows.execute("CREATE TABLE IF NOT EXISTS visits (at timestamptz DEFAULT now(), client text)")
        rows.execute("INSERT INTO visits (client) VALUES (%s)", [flask.request.headers.get("X-Real-IP")])
        rows.execute("SELECT count(*) FROM visits")
        kept = rows.fetchone()[0]
    return {"counted": counted, "kept": kept, "app": socket.gethostname(), "client": flask.request.headers.get("X-Real-IP")}
