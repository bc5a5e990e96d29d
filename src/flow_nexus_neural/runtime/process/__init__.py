"""What every node that is a process has, however it was started: an order, an end, a judged isolation."""
