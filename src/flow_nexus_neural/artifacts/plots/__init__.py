"""Figures as data, and what they become: pictures, Mermaid, or text that says the same in numbers."""
