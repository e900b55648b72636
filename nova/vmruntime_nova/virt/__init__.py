"""The directory that the launcher adds to Nova's package of drivers."""
