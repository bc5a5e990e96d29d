"""What aggregators, validators and parameter servers learn once the rounds of a training are over."""
