"""What objectives ask for values on all rows, for rows at hand."""


class RowMap:
    def __init__(self, rows, sampled=None):
        self.rows, self.sampled = rows, sampled

    def __call__(self, function):
        return function(self.rows)

    def on_sampled(self, function):
        return function(self.rows if self.sampled is None else self.rows[self.sampled])
