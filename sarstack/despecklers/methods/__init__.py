"""The despeckling methods, one file each; the registry finds every file of this folder."""
