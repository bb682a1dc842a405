"""The despeckling methods, one file each; the registry finds every file here by itself."""
