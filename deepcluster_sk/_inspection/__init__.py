"""What is shown of a fitted estimator: assignments, pictures, the report."""
