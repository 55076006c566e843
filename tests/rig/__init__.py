"""The rig: real engines, registries and base images for the live tests, on a bare machine.

Standard library only: it runs before anything is installed. ``python3 -m tests.rig up`` is all one needs.
"""
