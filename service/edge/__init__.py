"""What stands before the routes: who may ask, how much, and what they hear when they may not."""
