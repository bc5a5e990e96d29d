"""What autonomy observes and recommends."""
