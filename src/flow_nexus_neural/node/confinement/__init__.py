"""How a node gives up everything it does not need. Policy is data; ctypes only, no dependency."""
