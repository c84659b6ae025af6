"""Where images are: input URIs become a frozen manifest (`manifest`), and a manifest row becomes bytes on any machine
(`reader`).
"""
