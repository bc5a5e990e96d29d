"""Nodes started by exec, for systems on which a zygote cannot fork them."""
