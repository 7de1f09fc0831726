"""The cloud: the only package that uses openstacksdk and keystoneauth.

Each call here is one HTTP request whose fate is known: reads are repeated
while that can help, writes are sent once, and every failure becomes an error
of :mod:`bakflow.errors`. Putting calls in an order that survives a crash is
the business of ``bakflow.tasks``.
"""
