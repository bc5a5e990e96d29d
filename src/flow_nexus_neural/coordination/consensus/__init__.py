"""Aggregation policies, which combine the updates of a round to one state. One file per policy.

A policy is a pure function of vectors. `registry` finds policies by name. To add one, write its file and
register it there; nothing else needs a change.
"""
