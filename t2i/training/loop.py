"""One training loop for every run: resumable to the bit, saved atomically, looked at while it runs."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from t2i.checkpoints.registry import pick_device
from t2i.training import state as states
from t2i.training.config import Config, LoraConfig, RunConfig, TrainingError
from t2i.training.learners import DISTIL, DistilLearner, Examples, Learner, NetworkLearner
from t2i.training.report import Report, plot_losses
from t2i.training.state import State

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Trainer:
    """Holds a learner, the moving average of its weights, the optimiser and the position; `run` does the steps.

    Started by `accelerate launch`, several processes each learn from their own share of every step's examples.
    """

    def __init__(self, config: RunConfig) -> None:
        """Raises T2IError for data, weights or a device that are not there."""
        self.config = config
        self.out = Path(config.out)
        self._processes = PartialState(cpu=config.device == "cpu")
        alone = self._processes.num_processes == 1
        self.device = pick_device(config.device) if alone else self._processes.device
        self.learner = _learner(config, self.device)
        parameters = self.learner.network.named_parameters()
        self.weights = {name: weight for name, weight in parameters if weight.requires_grad}
        self.ema = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=config.learning_rate, weight_decay=0.01, fused=self.device.type != "mps"
        )
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        if config.gradient_checkpointing:
            self.learner.network.enable_gradient_checkpointing()
        if config.compile:
            self.learner.network.compile()
        self._loss: nn.Module = _Loss(self.learner)
        if not alone:
            devices = [self.device] if self.device.type == "cuda" else None
            self._loss = DistributedDataParallel(self._loss, device_ids=devices)
        self.leads = self._processes.is_main_process
        """Whether this is the process that writes files."""
        self.step = 0
        self.examples = 0
        self.losses: list[float] = []
        self._asked_to_stop = False
        self._agreed_to_stop = False

    def run(self, until: int | None = None) -> None:
        """Train to step `until` (default: the configured number); SIGTERM and Ctrl-C save and return."""
        config = self.config
        target = config.steps if until is None else until
        self.out.mkdir(parents=True, exist_ok=True)
        with self._stopping_on_signals(), Report(config.task, self.out, self.step, target, shown=self.leads) as report:
            batches = self._batches(target)
            while self.step < target and not self._stopping:
                scalars = self._train_step(batches)
                report.step(self.step, self.losses, scalars)
                if self.leads and self.step % config.sample_every == 0:
                    self.sample(report)
                if self.step % config.save_every == 0:
                    self.save()
            self.save()

    @contextmanager
    def _stopping_on_signals(self) -> Iterator[None]:
        def request_stop(number: int, frame: FrameType | None) -> None:
            self._asked_to_stop = True

        previous = {number: signal.signal(number, request_stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @property
    def _stopping(self) -> bool:
        """Several processes end after the same step: one that left alone would keep the others waiting for it."""
        return self._asked_to_stop if self._processes.num_processes == 1 else self._agreed_to_stop

    # --- one step -----------------------------------------------------------------------------------------------------

    def _batches(self, target: int) -> Iterator[Any]:
        """This process's batches from the present position to the end of step `target`."""
        config, processes = self.config, self._processes
        stride = config.batch_size * processes.num_processes
        first = self.examples + processes.process_index * config.batch_size
        count = (target - self.step) * config.accumulate
        loader = DataLoader(
            _Stream(self.learner.examples, config.batch_size),
            batch_size=None,
            sampler=range(first, first + count * stride, stride),
            num_workers=config.workers,
            pin_memory=self.device.type == "cuda",
        )
        return iter(loader)

    def _train_step(self, batches: Iterator[Any]) -> dict[str, float]:
        """One update of the weights; returns what is worth a curve beside the loss."""
        config, scaler = self.config, self._scaler
        generator = self._generator()
        rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), device=self.device)
        for index in range(config.accumulate):
            batch = next(batches)
            with self._gathering_gradients(last=index == config.accumulate - 1):
                with torch.autocast(self.device.type, _DTYPES[config.precision], enabled=config.precision != "fp32"):
                    loss = self._loss(batch, generator) / config.accumulate
                scaler.scale(loss).backward()
            total += loss.detach()
        mean = self._agree(total)
        if not math.isfinite(mean):
            raise self._diverged("loss", mean)
        scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.weights.values(), config.clip))
        # A scaler expects too large a gradient now and then, and leaves that step out.
        if not math.isfinite(norm) and not scaler.is_enabled():
            raise self._diverged("gradient", norm)
        scaler.step(self.optimizer)
        scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.examples += config.batch_size * config.accumulate * self._processes.num_processes
        self.losses.append(mean)
        self._update_ema()
        return {"learning rate": rate, "gradient norm": norm, "examples": self.examples}

    def _generator(self) -> torch.Generator:
        """Every random choice of a step comes from (seed, step, process), so resuming needs no generator state."""
        seed = self.config.seed * 1_000_003 + self.step + self._processes.process_index * 1_000_000_007
        return torch.Generator(self.device).manual_seed(seed)

    def _learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to a twentieth."""
        config = self.config
        warm = min(1.0, (self.step + 1) / config.warmup)
        return config.learning_rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * self.step / config.steps)))

    def _gathering_gradients(self, *, last: bool) -> AbstractContextManager[None]:
        """Processes add up their gradients once a step, with its last batch."""
        if last or not isinstance(self._loss, DistributedDataParallel):
            return nullcontext()
        return self._loss.no_sync()

    def _agree(self, loss: Tensor) -> float:
        """The mean loss of all processes; all of them stop where one of them is to."""
        if self._processes.num_processes == 1:
            return loss.item()
        shared = reduce(torch.stack([loss, loss.new_tensor(float(self._asked_to_stop))]), "mean")
        self._agreed_to_stop = bool(shared[1] > 0)
        return float(shared[0])

    def _diverged(self, what: str, value: float) -> TrainingError:
        return TrainingError(f"The {what} is {value} at step {self.step}; lower the learning rate and resume.")

    @torch.no_grad()
    def _update_ema(self) -> None:
        # A short memory at first, so that early samples are not the initial weights.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.values()), [weight.data for weight in self.weights.values()], 1 - decay)

    # --- looking, saving and resuming ---------------------------------------------------------------------------------

    def sample(self, report: Report) -> None:
        """A sheet drawn with the averaged weights, and the curve of the loss."""
        with self.averaged(), torch.inference_mode():
            sheet = self.learner.sample()
        if sheet is not None:
            report.picture(self.step, sheet)
        plot_losses(self.losses, self.out, self.config.task)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network has its averaged weights inside."""
        current = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self._put(self.ema)
        try:
            yield
        finally:
            self._put(current)

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, weight in weights.items():
            self.weights[name].copy_(weight)

    def save(self) -> None:
        """Write the state; of several processes one does."""
        if not self.leads:
            return
        adam = self.optimizer.state_dict()["state"]
        weights = {name: weight.detach() for name, weight in self.weights.items()}
        state = State(self.step, self.examples, weights, self.ema, adam, self._scaler.state_dict(), self.losses)
        states.save(self.out, state, asdict(self.config))

    def resume(self) -> bool:
        """Take up the saved state in `out`, if there is one. Raises TrainingError if it belongs to another network."""
        state = states.load(self.out)
        if state is None:
            return False
        shapes = {name: weight.shape for name, weight in self.weights.items()}
        if {name: weight.shape for name, weight in state.model.items()} != shapes:
            raise TrainingError(f"{self.out} holds a run of another network; choose another folder as 'out'.")
        self._put(state.model)
        for name, weight in state.ema.items():
            self.ema[name].copy_(weight)
        if state.adam:
            adam = states.in_layout_of(list(self.weights.values()), state.adam)
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": adam, "param_groups": groups})
        if state.scaler:
            self._scaler.load_state_dict(state.scaler)
        self.step, self.examples, self.losses = state.step, state.examples, state.losses
        return True


class _Loss(nn.Module):
    """A learner's loss as a module's forward, which is what several processes share gradients of."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.network = learner.network
        self._learner = learner

    def forward(self, batch: Any, generator: torch.Generator) -> Tensor:
        return self._learner.loss(batch, generator)


class _Stream(Dataset[Any]):
    """Batches by the number of their first example."""

    def __init__(self, examples: Examples, size: int) -> None:
        self._examples, self._size = examples, size

    def __getitem__(self, position: int) -> Any:
        return self._examples.batch(position, self._size)


def _learner(config: RunConfig, device: torch.device) -> Learner:
    if isinstance(config, LoraConfig):
        from t2i.training.lora import LoraLearner

        return LoraLearner(config, device)
    assert isinstance(config, Config)
    return DistilLearner(config, device) if config.task == DISTIL else NetworkLearner(config, device)


def train(config: RunConfig) -> tuple[Trainer, float]:
    """Run or resume what a configuration says; returns the trainer and the seconds it took. Raises T2IError."""
    began = time.monotonic()
    trainer = Trainer(config)
    trainer.resume()
    trainer.run()
    if trainer.leads and trainer.losses:
        plot_losses(trainer.losses, trainer.out, config.task)
    return trainer, time.monotonic() - began
