"""Adapters that put admission in front of a framework's requests or jobs; each is imported by its path.

They decide nothing: what is admitted is `asyncmem.admission`'s business, what it reads `asyncmem.limits`'.

========== =====================================
module     framework
========== =====================================
aiohttp    `aiohttp.web` applications
problem    what a refusal looks like over HTTP
========== =====================================
"""
