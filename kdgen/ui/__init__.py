"""The app: distil, compare and look around in a browser. One file a tab; the only gradio imports of kdgen.

Nothing is computed here that the package does not compute for everybody: the tabs call the same functions as the
command line, and a run is a process of its own that writes its run folder, which the page only reads. Models are
compared in another one (``worker``), which imports this room without the page.
"""
