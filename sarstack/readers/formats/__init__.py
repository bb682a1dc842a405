"""One file for each format that sarstack opens.

A file of this folder is a module with four names, which are described in
:class:`sarstack.readers.registry.Format`: ``TITLE``, ``SUFFIXES``, ``matches`` and
``list_images``. The registry finds the files itself. To add a format, write one file here
and one row in the table of ``docs/inputs.md``.
"""
