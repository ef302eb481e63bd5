"""GPS of recordings: what cameras write into their files, and tracks in files of their own."""
