"""The benchmark of quality: every method on the same scenes, simulated and real.

Suites make cases whose truth is known, scores judge what a method made of them, tables tell.
Real stacks are judged without truth, each date by the others.
"""
