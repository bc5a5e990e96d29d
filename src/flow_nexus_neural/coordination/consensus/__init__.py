"""Aggregation policies: how the updates of a round become one state. One file a policy.

A policy is pure: vectors in, vectors out. `registry` knows them by name. To add one, write its file and
register it there; rounds and connect use it without a change.
"""
