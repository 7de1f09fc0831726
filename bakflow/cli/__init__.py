"""The command line: cliff commands that speak to ``bakflow.rpc`` only.

One module starts a conductor in this process (``embedded``). Nothing here
imports the cloud, the database or the store, and nothing heavy at all before
a command runs. Nothing of its state survives a crash: the flow does, in SQL.
"""
