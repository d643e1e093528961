"""The app on this machine: `python app.py`, then open the address that it prints."""

from kdgen.ui.app import serve

if __name__ == "__main__":
    serve()
