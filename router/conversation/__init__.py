"""The bot as pure code: what is known, what is said, what follows. No I/O, no clock."""
