"""Which recipients exist: the option Known_Recipients.

``known_recipients.py`` finds the files for a recipient's domain, ``recipient_file.py`` reads one file.
"""
