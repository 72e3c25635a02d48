"""What a fit needs of the machine: devices, processes, random generators, files."""
