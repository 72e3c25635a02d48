"""What objectives ask for values on all rows, for rows at hand."""


class RowMap:
    seed = 0

    def __init__(self, rows, sampled=None):
        self.rows, self.sampled = rows, sampled
        n_sampled = len(rows) if sampled is None else len(sampled)
        self.sampled_shape = n_sampled, rows[0].numel()

    def __call__(self, function):
        return function(self.rows)

    def on_sampled(self, function):
        return function(self.rows if self.sampled is None else self.rows[self.sampled])

    def on_rows(self, rows, function):
        return function(self.rows[rows if self.sampled is None else self.sampled[rows]])

    def sum_on_sampled(self, function):
        rows = self.rows if self.sampled is None else self.rows[self.sampled]
        return sum(function(batch) for batch in rows.split(32))
