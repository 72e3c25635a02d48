"""The scikit-learn face of the methods: parameters, checks, fit, files."""
