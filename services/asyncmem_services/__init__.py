"""Services that run under asyncmem; each is a package of its own.

`asyncmem_services.embedding` turns text into vectors, in a process of its own over HTTP or inside another program.
"""
