"""A page and a small HTTP API that colour photos: thin, over what the commands use."""
