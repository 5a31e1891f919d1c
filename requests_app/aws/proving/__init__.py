"""What only AWS can answer, asked of it: `manage.py prove`.

Each question is a small function; its docstring is the question. `run` has them all, and the one role that they are
asked on. Nothing here is called by what serves people.
"""
