"""What private training costs in privacy, and what it may cost: decisions only."""
