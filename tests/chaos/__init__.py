"""The whole product with people who use it, faults that break it on purpose, and what must be true afterwards.

`make chaos` runs all of it and writes bench/chaos.md; tests/chaos/test_chaos.py a short form.
"""
