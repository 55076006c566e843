"""What runs in a namespace of its own, started as a process. Standard library only, nothing of imagesmith.

``main`` reads a job, ``space`` makes the namespaces, ``unpack`` and ``capture`` turn layers into folders
and back, ``mounts`` and ``steps`` run a script over them.
"""
