"""The figures of a run as pictures. matplotlib is imported when something is drawn: only developers have it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.arms import EXACT, OURS, PLAIN, STATIC, WHOLE
from benchmarks.figures import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {PLAIN: "#8a8f98", WHOLE: "#c9822b", STATIC: "#6f9f6b", OURS: "#2457c5", EXACT: "#7b5ea7"}
INK, GRID = "#24292f", "#e4e7eb"
STYLE: dict[str, Any] = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa0a6",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
}
SHOWN_LOADS = ("0.7", "0.95")


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """PNG files for every subject that has the figures; made by this run's numbers alone."""
    import matplotlib as mpl

    folder.mkdir(exist_ok=True)
    made = []
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        for name, found in result["figures"].items():
            pictures = {"steps": _step_times(name, found)} if "network" in found else {}
            for images, latency in found.get("latency", {}).items():
                people = "single pictures" if images == "1" else "grids of four"
                pictures[f"load-{images}"] = _over_load(f"{name}, {people}", latency)
                pictures[f"classes-{images}"] = _by_steps(f"{name}, {people}", latency)
            for kind, picture in pictures.items():
                file = folder / f"{result['suite']}-{name}-{kind}.png"
                picture.text(0.995, 0.01, result["device"], ha="right", fontsize=7.5, color="#8a8f98")
                picture.savefig(file, dpi=144)
                made.append(file)
    return made


def _step_times(name: str, found: Figures) -> Figure:
    """What a row costs in batches of different sizes, and how much of the device that uses."""
    figure, (left, right) = _panels(f"{name}: one step", one_scale=False)
    network = found["network"]
    for arm, measured in network["step_seconds"].items():
        colour, best = COLOURS.get(arm, "#c2c6cc"), network["best_rows"][arm]
        label = arm if network["dtypes"][arm] in arm else f"{arm}, {network['dtypes'][arm]}"
        per_row = {int(rows): 1000 * seconds / int(rows) for rows, seconds in measured.items()}
        left.plot(list(per_row), list(per_row.values()), "o-", color=colour, label=label, linewidth=_weight(arm))
        left.plot([best], [per_row[best]], "o", markersize=13, markerfacecolor="none", color=colour)
        used = {int(rows): 100 * share for rows, share in network["utilisation"][arm].items()}
        right.plot(list(used), list(used.values()), "o-", color=colour, linewidth=_weight(arm))
    left.set_title("milliseconds a row (ring: the best batch)")
    right.set_title("share of the matmul peak in that precision, %")
    for axes in (left, right):
        axes.set_ylim(bottom=0)
        _rows_axis(axes, [int(rows) for rows in network["step_seconds"][OURS]])
    _legend(figure, left)
    return figure


def _over_load(title: str, latency: Figures) -> Figure:
    figure, panels = _panels(f"{title}: seconds to the picture")
    loads = list(latency["loads"])
    arms = list(latency["loads"][loads[0]])
    for axes, what in zip(panels, ("mean", "p95"), strict=True):
        for arm in arms:
            seconds = [latency["loads"][load][arm]["latency"][what] for load in loads]
            axes.plot(range(len(loads)), seconds, "o-", color=COLOURS[arm], label=arm, linewidth=_weight(arm))
        axes.set_title(what)
        axes.set_yscale("log")
        _plain_seconds(axes)
        axes.set_xticks(range(len(loads)), loads)
        axes.set_xlabel("load, share of what diffusers can do")
    _legend(figure, panels[0])
    return figure


def _by_steps(title: str, latency: Figures) -> Figure:
    """Who waits for whom: short jobs behind long ones, or the other way round."""
    figure, panels = _panels(f"{title}: seconds to the picture")
    for axes, load in zip(panels, SHOWN_LOADS, strict=True):
        arms = latency["loads"][load]
        classes = list(next(iter(arms.values()))["by_steps"])
        classes.sort(key=int)
        for index, (arm, found) in enumerate(arms.items()):
            places = [place + 0.18 * (index - (len(arms) - 1) / 2) for place in range(len(classes))]
            means, tails = ([found["by_steps"][steps][what] for steps in classes] for what in ("mean", "p95"))
            axes.vlines(places, means, tails, color=COLOURS[arm], alpha=0.45, linewidth=5)
            axes.plot(places, means, "o", color=COLOURS[arm], label=arm, markersize=5.5)
        axes.set_title(f"load {load} (dot: mean, bar: up to p95)")
        axes.set_yscale("log")
        _plain_seconds(axes)
        axes.grid(visible=False, axis="x")
        axes.set_xticks(range(len(classes)), classes)
        axes.set_xlabel("steps")
    _legend(figure, panels[0])
    return figure


def _panels(title: str, *, one_scale: bool = True) -> tuple[Figure, list[Axes]]:
    """Two panels side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.9))
    figure.set_layout_engine("constrained", rect=(0, 0.03, 1, 0.97))
    figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")
    left, right = figure.subplots(1, 2, sharey=one_scale)
    return figure, [left, right]


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="upper right",
        ncols=len(labels),
        frameon=False,
        fontsize=9,
        borderaxespad=0.2,
        handlelength=1.4,
    )


def _rows_axis(axes: Axes, rows: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(rows, [str(count) for count in rows])
    axes.set_xlabel("rows of the batch")


def _plain_seconds(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _weight(arm: str) -> float:
    return 2.4 if arm == OURS else 1.5
