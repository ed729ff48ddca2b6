"""`gunicorn -c gunicorn.conf.py 'app:create_app()'`: each worker is a peer of its own."""

bind = "127.0.0.1:5000"
preload_app = True
workers = 2
worker_class = "gthread"
# A view that waits for a call holds a thread for so long.
threads = 8
