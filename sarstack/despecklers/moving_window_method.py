"""Base class of the methods that compute each pixel from one square window around it.

A subclass has a name, a docstring, :meth:`despeckle`, and a constructor only if it has further
parameters or another default::

    def __init__(self, window_px: int = 9, sigma: float = 0.9) -> None:
        super().__init__(window_px)
        check_between(0.3, 0.99, sigma=sigma)
        self.sigma = float(sigma)
"""

from sarstack.checks import check_odd_window
from sarstack.despecklers.despeckler import Despeckler


class MovingWindowMethod(Despeckler):
    """A method with a square window; its halo is half of the window, rounded down.

    Parameters
    ----------
    window_px : int
        Odd width of the window.

    Raises
    ------
    UsageError
        If `window_px` is not an odd whole number of at least 3.
    """

    def __init__(self, window_px: int = 7) -> None:
        check_odd_window(window_px=window_px)
        self.window_px = int(window_px)
        self.halo = self.window_px // 2
