"""What the plots of a cluster show: from what was measured of it to a figure, one module a kind.

No module here draws, waits or reads a clock. What was not measured is an error that says how to have it
measured.
"""
