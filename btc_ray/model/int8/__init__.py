"""The network in 8 bits: its form in a bundle, and how it is made."""
