"""The page walk: every address the resolver knows, by every kind of person, with every list empty, one and many.

`addresses` reads the resolver, `landscapes` makes the rows and counts them against the models, `visitors` are the
people, `visiting` makes one request and undoes what it did. What is new fails with a sentence that says what to add.
The walk itself is in tests/web/test_every_page.py.
"""
