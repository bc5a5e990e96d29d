"""What a cluster does about itself: measurements in, decisions out; no clock, no I/O."""
