"""What the service answers, one file for each kind of request. A new route is one more file, and one line in app.py."""
