"""qcow2 images as far as backups need them: read by ranges, write in order.

Pure: knows neither a cloud nor a store. Nothing here survives a crash, nor
has to: readers are reopened, and a stream starts again.
"""
