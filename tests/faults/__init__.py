"""Machines that search for faults: the operator as a process behind a proxy that does what networks and servers do."""
