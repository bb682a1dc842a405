"""Block matching and collaborative filters (BM3D), compiled with numba at the first call.

Import the files of this folder inside functions only: numba takes a third of a second to import.
"""
