"""The loop, driven by a toy objective: no method takes part."""

import math
import re
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from deepcluster_sk._data.sources import ResidentSource
from deepcluster_sk._runtime.random import Seeds
from deepcluster_sk._training import inference as _inference
from deepcluster_sk._training import row_map
from deepcluster_sk._training.callbacks import Callback
from deepcluster_sk._training.interrupts import Interrupts
from deepcluster_sk._training.objective import LossOutput, Objective, Settings
from deepcluster_sk._training.state import TrainConfig, TrainingData
from deepcluster_sk._training.steps import learning_rate_factor
from deepcluster_sk._training.trainer import Trainer
from deepcluster_sk.augmentations import Augmentation
from deepcluster_sk.exceptions import DivergenceError

CPU = torch.device("cpu")
CONFIG = {
    "max_epochs": 3,
    "batch_size": 4,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup": 0.0,
    "precision": "float32",
}


class Mean(Objective):
    """Learn the mean of the data; record what the loop does."""

    def __init__(self, event=None):
        super().__init__(nn.Identity(), 2, Settings(n_clusters=2))
        self.weight = nn.Parameter(torch.zeros(2))
        self.calls = []
        self.batches = []
        self.event = event

    def forward(self, batch):
        self.calls.append("forward")
        self.batches.append(batch)
        a, b = batch.views
        loss = ((a - self.weight) ** 2).mean() + ((b - self.weight) ** 2).mean()
        if self.event is not None:
            loss = self.event(self, loss)
        return LossOutput(loss, {"square": loss.detach(), "half": loss.detach() / 2}, (a.detach(),))

    def assign(self, features):
        return features.softmax(dim=1)

    def sample_noise(self, batch_size, generator):
        self.calls.append("noise")
        return (torch.rand(batch_size, generator=generator),)

    def after_step(self, carry, progress):
        self.calls.append(f"after {len(carry[0])} {progress:.2f}")

    def before_epoch(self, progress, map_all):
        values = map_all(lambda x: x + self.training)
        self.calls.append(f"epoch {progress:.2f} {tuple(values.shape)}")

    def after_training(self, features, seed):
        self.calls.append("finish")


class Shift(Augmentation):
    def sample(self, shape, generator):
        return (torch.rand(shape[0], 1, generator=generator),)

    def transform(self, x, draw):
        return x + draw[0]


class Recorder(Callback):
    def __init__(self, stop_after=None):
        self.calls = []
        self.stop_after = stop_after

    def on_fit_begin(self, state):
        self.calls.append("begin")

    def on_epoch_begin(self, state):
        self.calls.append(f"epoch {len(state.history)}")

    def on_epoch_end(self, state, finished):
        self.calls.append(f"end {len(state.history)}")
        return len(state.history) == self.stop_after

    def on_fit_end(self, state):
        self.calls.append("finish")


def data(n=10):
    return np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)


def run(objective, X=None, callbacks=(), entropy=0, augment=None, interrupts=None, **config):
    X = data() if X is None else X
    trainer = Trainer(
        TrainConfig(**{**CONFIG, **config}), seeds=Seeds(entropy), device=CPU, callbacks=callbacks
    )
    read = TrainingData(ResidentSource(X, CPU), nn.Identity(), augment or Shift())
    return trainer.run(objective, read, interrupts=interrupts)[0]


def test_hooks_run_in_the_documented_order():
    objective = Mean()
    run(objective, max_epochs=1)
    steps = ["noise", "forward", "after 4 0.50", "noise", "forward", "after 4 1.00"]
    assert objective.calls == ["epoch 0.00 (10, 2)", *steps, "finish"]


def test_history_holds_the_mean_of_every_term():
    objective = Mean()
    state = run(objective, max_epochs=2)
    assert [set(record.terms) for record in state.history] == [{"square", "half"}] * 2
    for record in state.history:
        assert record.total == pytest.approx(record.terms["square"])
        assert record.total == pytest.approx(2 * record.terms["half"])
    assert state.history[1].total < state.history[0].total


def test_history_is_the_mean_over_the_batches_of_an_epoch():
    losses = []
    objective = Mean(event=lambda self, loss: losses.append(loss.item()) or loss)
    state = run(objective, max_epochs=1)
    assert state.history[0].total == pytest.approx(np.mean(losses))


def test_an_epoch_sees_rows_once_and_drops_the_incomplete_batch():
    objective = Mean()
    run(objective, max_epochs=1)
    index = torch.cat([batch.rows for batch in objective.batches])
    assert len(objective.batches) == 2
    assert len(index) == len(set(index.tolist())) == 8


def test_orders_differ_between_epochs():
    objective = Mean()
    run(objective, max_epochs=2)
    assert not torch.equal(objective.batches[0].rows, objective.batches[2].rows)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_few_rows_make_one_batch_of_all_that_fit(n):
    objective = Mean()
    run(objective, data(n), max_epochs=1)
    assert [len(batch.rows) for batch in objective.batches] == [min(n, 4)]


def test_views_show_the_same_rows_under_different_draws():
    X = data()
    objective = Mean()
    run(objective, X, max_epochs=1)
    for batch in objective.batches:
        rows = torch.as_tensor(X)[batch.rows]
        shifts = [view - rows for view in batch.views]
        for shift in shifts:
            torch.testing.assert_close(shift[:, 0], shift[:, 1])
        assert not torch.allclose(*shifts)


def test_an_objective_may_pair_a_row_with_another():
    class Paired(Mean):
        def view_rows(self, plan, generator):
            return torch.stack([plan, (plan + 1) % 10], dim=1)

    X = data()
    objective = Paired()
    run(objective, X, max_epochs=1, augment=_Unchanged())
    for batch in objective.batches:
        torch.testing.assert_close(batch.views[1], torch.as_tensor(X)[(batch.rows + 1) % 10])


def test_plain_views_show_rows_as_they_are():
    class WithPlain(Mean):
        n_views, n_plain_views = 3, 1

        def forward(self, batch):
            self.plain = [*getattr(self, "plain", []), batch.views[2]]
            return super().forward(batch._replace(views=batch.views[:2]))

    X = data()
    objective = WithPlain()
    run(objective, X, max_epochs=1)
    for batch, plain in zip(objective.batches, objective.plain, strict=True):
        rows = torch.as_tensor(X)[batch.rows]
        torch.testing.assert_close(plain, rows)
        for view in batch.views:
            assert not torch.allclose(view, rows)


class _Unchanged(Augmentation):
    def sample(self, shape, generator):
        return ()

    def transform(self, x, draw):
        return x


def test_one_entropy_gives_the_same_weights_bit_for_bit():
    weights = []
    for entropy in (0, 0, 1):
        objective = Mean()
        run(objective, entropy=entropy)
        weights.append(objective.weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_an_augmentation_that_draws_globally_is_reproducible_and_leaves_no_trace():
    class Global(Augmentation):
        def sample(self, shape, generator):
            return ()

        def transform(self, x, draw):
            return x + torch.rand(1) + np.random.rand()

    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    totals = [run(Mean(), augment=Global()).history[-1].total for _ in range(2)]
    assert totals[0] == totals[1]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_not_a_number_names_epoch_terms_and_learning_rate():
    def diverge(objective, loss):
        return loss * float("nan") if objective.calls.count("forward") > 2 else loss

    message = (
        "Loss became nan in epoch 2 (square=nan, half=nan). Lower learning_rate (now 0.01), or use "
        "precision='float32' (now 'float32')."
    )
    with pytest.raises(DivergenceError, match=re.escape(message)):
        run(Mean(event=diverge))


def test_interrupt_restores_the_last_finished_epoch():
    finished = Mean()
    run(finished, max_epochs=2)

    def interrupt(objective, loss):
        if objective.calls.count("forward") == 6:
            raise KeyboardInterrupt
        return loss

    recorder, interrupts = Recorder(), Interrupts()
    stopped = Mean(event=interrupt)
    state = run(stopped, max_epochs=3, callbacks=[recorder], interrupts=interrupts)
    assert interrupts.cut
    assert interrupts.n_planned == 3
    assert len(state.history) == 2
    assert torch.equal(stopped.weight, finished.weight)
    epochs = ["epoch 0", "end 1", "epoch 1", "end 2", "epoch 2"]
    assert recorder.calls == ["begin", *epochs, "finish"]


def test_interrupt_within_the_first_epoch_goes_through():
    def interrupt(objective, loss):
        raise KeyboardInterrupt

    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt):
        run(Mean(event=interrupt), callbacks=[recorder])
    assert recorder.calls == ["begin", "epoch 0", "finish"]


class InterruptedAtItsEnd(Mean):
    """Get Ctrl-C after the last epoch."""

    def __init__(self, times=1, event=None):
        super().__init__(event)
        self.times = times

    def after_training(self, features, seed):
        for _ in range(self.times):
            signal.raise_signal(signal.SIGINT)
        super().after_training(features, seed)


def test_ctrl_c_after_the_last_epoch_waits_and_is_told():
    objective, whole, interrupts = InterruptedAtItsEnd(), Mean(), Interrupts()
    run(whole)
    with pytest.warns(UserWarning, match="Ctrl-C came after the last epoch: the fit is complete"):
        state = run(objective, interrupts=interrupts)
    assert objective.calls == whole.calls
    assert len(state.history) == 3
    assert not interrupts.cut
    assert not objective.training
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_waits_while_callbacks_end_the_fit():
    class Slow(Recorder):
        def on_fit_end(self, state):
            signal.raise_signal(signal.SIGINT)
            super().on_fit_end(state)

    recorder, objective = Slow(), Mean()
    with pytest.warns(UserWarning, match="after the last epoch"):
        run(objective, callbacks=[recorder], max_epochs=1)
    assert recorder.calls[-1] == objective.calls[-1] == "finish"


def test_a_second_ctrl_c_after_the_last_epoch_interrupts_at_once():
    objective = InterruptedAtItsEnd(times=2)
    with pytest.raises(KeyboardInterrupt):
        run(objective)
    assert "finish" not in objective.calls
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_again_while_an_interrupted_fit_ends_waits_as_well():
    def interrupt(objective, loss):
        if objective.calls.count("forward") == 6:
            raise KeyboardInterrupt
        return loss

    objective = InterruptedAtItsEnd(event=interrupt)
    interrupts = Interrupts()
    run(objective, interrupts=interrupts)  # the estimator warns of the cut; here, it would raise
    assert interrupts.cut
    assert objective.calls[-1] == "finish"


def test_a_handler_of_the_users_own_stays():
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        run(InterruptedAtItsEnd(times=2))
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT] * 2


def test_a_run_in_another_thread_leaves_the_handler_alone():
    with ThreadPoolExecutor(1) as pool:
        state = pool.submit(run, Mean()).result()
    assert len(state.history) == 3


def test_a_callback_ends_the_run():
    recorder, other, interrupts = Recorder(stop_after=2), Recorder(), Interrupts()
    state = run(Mean(), max_epochs=9, callbacks=[recorder, other], interrupts=interrupts)
    assert len(state.history) == 2
    assert state.stopped
    assert not interrupts.cut
    assert (
        recorder.calls
        == other.calls
        == ["begin", *["epoch 0", "end 1"], "epoch 1", "end 2", "finish"]
    )


class FailsAt(Recorder):
    """Raises at the beginning, or at the end."""

    def __init__(self, hook):
        super().__init__()
        self.hook = hook

    def on_fit_begin(self, state):
        super().on_fit_begin(state)
        if self.hook == "begin":
            raise KeyError("broken")

    def on_fit_end(self, state):
        super().on_fit_end(state)
        if self.hook == "finish":
            raise KeyError("broken")


@pytest.mark.parametrize("hook", ["begin", "finish"])
def test_callbacks_that_began_end_if_another_one_fails(hook):
    first, broken, last = Recorder(), FailsAt(hook), Recorder()
    with pytest.raises(KeyError, match="broken"):
        run(Mean(), callbacks=[first, broken, last], max_epochs=1)
    assert (first.calls[0], first.calls[-1]) == ("begin", "finish")
    assert first.calls.count("finish") == 1
    assert broken.calls.count("finish") == (hook == "finish")
    assert last.calls == ([] if hook == "begin" else ["begin", "epoch 0", "end 1", "finish"])


def test_a_finished_copy_is_what_the_run_ends_with():
    class Copying(Callback):
        def on_epoch_end(self, state, finished):
            copies.append(finished().objective)
            return False

    copies, plain, objective = [], Mean(), Mean()
    run(plain)
    run(objective, callbacks=[Copying()])
    assert torch.equal(objective.weight, plain.weight)
    assert torch.equal(copies[-1].weight, plain.weight)
    assert not torch.equal(copies[0].weight, copies[1].weight)
    assert [copied.calls.count("finish") for copied in copies] == [1, 1, 1]
    assert not copies[0].training


def one_pass(objective, **kwargs):
    trainer = Trainer(TrainConfig(**CONFIG), seeds=Seeds(0), device=CPU)
    read = TrainingData(ResidentSource(data(), CPU), nn.Identity(), Shift())
    return trainer.run_one_pass(objective, read, **kwargs)


def test_the_first_pass_without_a_known_end_prepares_before_and_after():
    objective = Mean()
    _, after = one_pass(objective, number=0, before=None, starts=True)
    epochs = [call for call in objective.calls if call.startswith("epoch")]
    assert epochs == ["epoch 0.00 (10, 2)", "epoch 1.00 (10, 2)"]
    assert objective.calls[0] == epochs[0]
    assert objective.calls[-1] == epochs[1]
    objective.calls.clear()
    one_pass(objective, number=1, before=after, starts=False)
    assert [call for call in objective.calls if call.startswith("epoch")] == [epochs[1]]
    assert "finish" not in objective.calls


def test_passes_with_the_state_of_the_steps_equal_one_run():
    whole, parts = Mean(), Mean()
    run(whole, max_epochs=3)
    after = None
    for number in range(3):
        _, after = one_pass(parts, number=number, before=after, starts=number == 0)
    assert torch.equal(whole.weight, parts.weight)
    assert after.values["done"] == 6


def test_epochs_are_planned_from_their_mean_duration(monkeypatch):
    clock = iter([0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0])  # the first epoch is slow
    monkeypatch.setattr("deepcluster_sk._training.trainer.time.monotonic", lambda: next(clock))
    objective = Mean()
    state = run(objective, max_epochs=100, max_time=6.5)
    assert (len(state.history), state.seconds) == (5, 6.0)
    shares = [call.split()[1] for call in objective.calls if call.startswith("epoch")]
    # 1 of 1 + 4.5/2, 2 of 2 + 3.5/1.5, 3 of 3 + 2.5/(4/3), 4 of 4 + 1.5/(5/4)
    assert shares == ["0.00", "0.33", "0.50", "0.75", "0.80"]


def test_out_of_memory_names_the_batch_size():
    def exhaust(objective, loss):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(MemoryError, match="on cpu with batch_size=4"):
        run(Mean(event=exhaust))


def test_other_errors_of_a_step_go_through():
    def fail(objective, loss):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(Mean(event=fail))


def test_the_host_reads_from_the_device_once_per_epoch_and_once_in_the_end(monkeypatch):
    reads = []
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        original = getattr(torch.Tensor, name)

        def counted(self, *args, _name=name, _original=original, **kwargs):
            reads.append(_name)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, counted)

    class Quiet(Mean):
        def before_epoch(self, progress, map_all):
            pass

    counts = []
    for n in (8, 40):
        reads.clear()
        # plain SGD: torch's Adam reads its own step counter, which lies on the host
        run(Quiet(), data(n), max_epochs=2)
        counts.append(len(reads))
    assert counts == [3, 3]


def test_features_that_are_not_finite_name_the_epoch_and_the_learning_rate():
    class Diverged(Mean):
        def before_epoch(self, progress, map_all):
            if progress > 0:
                map_all(lambda x: x / 0)

    with pytest.raises(DivergenceError, match=r"Features became NaN .* after epoch 1.*\(now 0"):
        run(Diverged(), max_epochs=2)


def test_hooks_map_all_rows_or_those_that_stand_for_them(monkeypatch):
    monkeypatch.setattr(row_map, "_MAX_SAMPLED", 5)
    X, seen = data(12), {}

    class Mapped(Mean):
        def before_epoch(self, progress, map_all):
            seen["all"], seen["some"] = map_all(lambda x: x), map_all.on_sampled(lambda x: x)
            seen["rows"] = map_all.sampled
            seen["few"] = map_all.on_rows(torch.tensor([3, 0]), lambda x: x)

    run(Mapped(), X, max_epochs=1)
    rows = torch.from_numpy(X).float()
    assert len(seen["rows"]) == 5
    torch.testing.assert_close(seen["all"], rows)
    torch.testing.assert_close(seen["some"], rows[seen["rows"]])
    torch.testing.assert_close(seen["few"], rows[seen["rows"][[3, 0]]])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_optimizer_learns(optimizer):
    objective = Mean()
    state = run(objective, max_epochs=30, optimizer=optimizer, learning_rate=0.05)
    assert state.history[-1].total < state.history[0].total


def test_weight_decay_shrinks_the_weights():
    norms = []
    for weight_decay in (0.0, 1.0):
        objective = Mean()
        run(objective, max_epochs=50, weight_decay=weight_decay)
        norms.append(objective.weight.norm().item())
    assert norms[1] < 0.8 * norms[0]


def test_cosine_rises_linearly_then_falls_to_zero():
    factors = [
        learning_rate_factor(step, n_steps=100, schedule="cosine", warmup=0.2)
        for step in range(101)
    ]
    assert np.all(np.diff(factors[:21]) > 0)
    assert factors[20] == 1
    assert factors[60] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0)
    for step in (30, 70):
        expected = (1 + math.cos(math.pi * (step - 20) / 80)) / 2
        assert factors[step] == pytest.approx(expected)


def test_constant_stays_after_the_warm_up():
    factors = [
        learning_rate_factor(step, n_steps=10, schedule="constant", warmup=0.3)
        for step in range(10)
    ]
    assert factors[3:] == [1.0] * 7
    assert factors[0] < factors[1] < factors[2] < 1


def test_low_precision_trains_close_to_float32():
    totals = [run(Mean(), precision=p).history[-1].total for p in ("float32", "bfloat16")]
    assert totals[1] == pytest.approx(totals[0], rel=0.05)


def test_hooks_sum_over_batches_of_the_rows_that_stand_for_all(monkeypatch):
    monkeypatch.setattr(row_map, "_MAX_SAMPLED", 100)
    monkeypatch.setattr(_inference, "BATCH_SIZE", 32)
    X, seen, lengths, modes = data(120), {}, [], []

    class Summed(Mean):
        def before_epoch(self, progress, map_all):
            seen["rows"], seen["shape"] = map_all.sampled, map_all.sampled_shape
            seen["sum"] = map_all.sum_on_sampled(self.sums)
            modes.append((self.training, torch.is_grad_enabled()))

        def sums(self, x):
            lengths.append(len(x))
            modes.append((self.training, torch.is_grad_enabled()))
            return x.sum(dim=0).double()

    run(Summed(), X, max_epochs=1)
    assert lengths == [32, 32, 32, 4]
    assert modes[:4] == [(False, False)] * 4  # as in predictions
    assert modes[4][0]
    assert seen["shape"] == (100, 2)
    np.testing.assert_allclose(seen["sum"], X[seen["rows"]].sum(axis=0), rtol=1e-5)
