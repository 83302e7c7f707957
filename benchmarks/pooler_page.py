"""Fill the tables of docs/pooler-study.md and draw its figures, from the stored matrix alone.

Sentences of the page are written by hand; everything between two markers, `<!-- order -->` and
`<!-- /order -->`, is written here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

import pooler_answers as answers
from poolblend.report.plots.rows import dots, row_axes
from poolblend.report.plots.style import (
    BLUE,
    FAINT,
    INK,
    MARKERS,
    MUTED,
    SERIES,
    finish,
    new_figure,
    theme,
    to_svg,
)
from pooler_grid import POOLERS, STUDIED, VARIANTS, members
from pooler_matrix import ROOT, Estimate, Matrix, estimate, load, name_of

PAGE = ROOT / "docs" / "pooler-study.md"
FIGURES = ROOT / "docs" / "figures"
FITTED_SIZES, DRAWS, TRIALS = (2, 3, 4, 5, 6, 7, 8), 10, 100
# Scheme, poolers, seeds and sizes of the curves: the first three are compared with each other.
CURVES = (
    ("one pooler, m seeds", answers.FIVE, 6, (2, 3, 4, 5)),
    ("m poolers, one seed", answers.FIVE, 6, (2, 3, 4, 5)),
    ("m poolers, m seeds", answers.FIVE, 6, (2, 3, 4, 5)),
    ("one pooler, m seeds", ("mean", "max"), 8, (2, 3, 4, 5, 6, 7)),
    ("m poolers, one seed", POOLERS, 4, (2, 3, 4, 5, 6, 7, 8)),
    ("m poolers, m seeds", POOLERS, 4, (2, 3, 4, 5, 6, 7, 8)),
)


def write(folder: Path, page: Path = PAGE, figures: Path = FIGURES) -> None:
    """Write the page's tables and figures from the whole matrices below `folder`."""
    names = sorted(path.parent.name for path in folder.glob("*/members.csv"))
    studied = {name: Answers(name, folder) for name in names if _is_whole(name, folder)}
    blocks: dict[str, list[str]] = {}
    for name, each in studied.items():
        for block, lines in each.tables().items():
            if lines:
                blocks.setdefault(block, []).append("\n".join([f"*{name}*", "", *lines]))
    for title, (alternative, draw, what) in FIGURES_OF.items():
        figure = draw({name: getattr(each, what) for name, each in studied.items()})
        (figures / f"poolers-{title}.svg").write_text(to_svg(figure), encoding="utf-8")
        blocks[title].insert(0, f"![{alternative}](figures/poolers-{title}.svg)")
    page.write_text(_filled(page.read_text(encoding="utf-8"), blocks), encoding="utf-8")


def _is_whole(name: str, folder: Path) -> bool:
    """Whether all of the competition's members are in its matrix; says so where they are not."""
    wanted = {name_of(member) for member in members(STUDIED[name])}
    there = wanted & set(pd.read_csv(folder / name / "members.csv")["member"])
    if there < wanted:
        print(f"{name} is left out: {len(there)} of {len(wanted)} members are trained")
    return there == wanted


def _filled(text: str, blocks: dict[str, list[str]]) -> str:
    """The page's text with each block between its two markers."""
    for block, parts in blocks.items():
        content = "\n\n".join(parts)
        pattern = rf"(<!-- {block} -->\n).*?(<!-- /{block} -->)"
        text, n = re.subn(pattern, lambda m, c=content: f"{m[1]}\n{c}\n\n{m[2]}", text, flags=re.S)
        assert n == 1, f"the page has no place for {block}"
    return text


class Answers:
    """What the page says of one competition; what figures and tables share is computed once."""

    def __init__(self, name: str, folder: Path) -> None:
        self.matrix = load(name, folder)
        self.costs = pd.read_csv(folder / name / "members.csv")

    @cached_property
    def order(self) -> dict[str, Estimate]:
        """The poolers' scores, and their log loss minus that of `mean`."""
        part = self.matrix.of_seeds(4)
        scores = {
            score: estimate(lambda m, s=score: answers.single(m, s), part)
            for score in answers.SCORES
        }
        return scores | {"log loss, minus mean's": estimate(answers.over_mean, part)}

    @cached_property
    def components(self) -> Estimate:
        return estimate(answers.components, self.matrix.of_seeds(6))

    @cached_property
    def correlations(self) -> Estimate:
        return estimate(answers.error_correlations, self.matrix.of_seeds(4))

    @cached_property
    def curves(self) -> list[Estimate]:
        return [
            answers.curve(self.matrix.of_seeds(n), scheme, poolers, sizes)
            for scheme, poolers, n, sizes in CURVES
        ]

    def tables(self) -> dict[str, list[str]]:
        """The lines of each block's table; none where the competition has no such members."""
        return {
            "order": order_table(self.order, self.costs),
            "pairs": pairs_table(self.matrix),
            "components": components_table(self.components),
            "errors": errors_table(self.correlations),
            "curves": curves_table(self.curves),
            "schemes": schemes_table(self.matrix),
            "fives": fives_table(self.matrix),
            "fitted": fitted_table(self.matrix),
            "variants": variants_table(self.matrix),
            "partners": partners_table(self.matrix),
        }


# --- tables -------------------------------------------------------------------------------------


def order_table(order: dict[str, Estimate], costs: pd.DataFrame) -> list[str]:
    by_pooler = costs[~costs["member"].str.contains(r"-[a-z]+-s\d+$")]
    by_pooler = by_pooler.assign(pooler=by_pooler["member"].str.rpartition("-s")[0])
    cost = by_pooler.groupby("pooler")[["train_seconds", "parameters_above_encoder"]].median()
    rows = []
    for p in np.argsort(order["log loss"].value):
        cells = [POOLERS[p], *(_shown(each, p) for each in order.values())]
        seconds, parameters = cost.loc[POOLERS[p]]
        rows.append([*cells, f"{seconds:.0f}", f"{parameters:,.0f}"])
    heads = ["pooler", *order, "seconds to train", "weights above the encoder"]
    return _table(heads, rows)


def pairs_table(matrix: Matrix) -> list[str]:
    pairs = answers.differences(matrix.of_seeds(4))
    told = sorted((each for each in pairs if each.p < 0.05), key=lambda each: each.p)
    lines = [
        f"After Holm's correction, {len(told)} of {len(pairs)} differences are told from zero."
    ]
    if told:
        rows = []
        for each in told[:10]:
            better, worse, sign = (
                (each.first, each.second, -1) if each.value < 0 else (each.second, each.first, 1)
            )
            low, high = sorted((sign * each.low, sign * each.high))
            rows.append(
                [
                    better,
                    worse,
                    f"{sign * each.value:+.4f} ({low:+.4f} to {high:+.4f})",
                    f"{each.p:.4f}",
                ]
            )
        lines += ["", *_table(["better", "worse", "difference", "corrected p"], rows)]
    return lines


def components_table(found: Estimate) -> list[str]:
    names = ("pooler", "seed, in common to all poolers", "each training's own chance")
    return _table(
        ["share of the variance", ""], [[name, _shown(found, q, 3)] for q, name in enumerate(names)]
    )


def errors_table(found: Estimate) -> list[str]:
    rows = [[kind, _shown(found, q)] for q, kind in enumerate(answers.KINDS)]
    return _table(["two members", "correlation of their errors"], rows)


def curves_table(curves: Sequence[Estimate]) -> list[str]:
    sizes = range(2, answers.MOST + 1)
    rows = []
    for (scheme, poolers, _, has), found in zip(CURVES, curves, strict=True):
        which = f"{len(poolers)} poolers" if len(poolers) > 2 else " and ".join(poolers)
        cells = [_shown(found, has.index(m), signed=True) if m in has else "" for m in sizes]
        rows.append([f"{scheme} ({which})", *cells, _shown(found, -1, signed=True)])
    return _table(["blends", *(f"m = {m}" for m in sizes), "each further member"], rows)


def schemes_table(matrix: Matrix) -> list[str]:
    names = (
        "m poolers with m seeds over m seeds of one pooler",
        "m poolers with m seeds over m poolers with one seed",
        "m seeds of one pooler over m poolers with one seed",
    )
    found = {m: answers.scheme_differences(matrix.of_seeds(6), m) for m in (2, 3, 4, 5)}
    rows = [
        [name, *(_shown(each, q, 5, signed=True) for each in found.values())]
        for q, name in enumerate(names)
    ]
    return _table(["gain in log loss of", *(f"m = {m}" for m in found)], rows)


def fives_table(matrix: Matrix) -> list[str]:
    found = answers.five_of_each(matrix.of_seeds(6))
    names = [f"five seeds of {pooler}" for pooler in answers.FIVE]
    heads = ["equal blend of", "log loss, minus that of the five poolers' blend"]
    return _table(heads, [[name, _shown(found, q, signed=True)] for q, name in enumerate(names)])


def fitted_table(matrix: Matrix) -> list[str]:
    rows: dict[str, list[str]] = {name: [name] for name in answers.FITTERS}
    for _, name, gain, low, high in answers.fitted(matrix.of_seeds(4), FITTED_SIZES, DRAWS, TRIALS):
        cell = f"{gain:+.4f} ({low:+.4f} to {high:+.4f})"
        rows[name].append(cell.replace("-", "−"))
    return _table(["weights by", *(f"m = {m}" for m in FITTED_SIZES)], list(rows.values()))


def variants_table(matrix: Matrix) -> list[str]:
    pairs = [(pooler, variant) for pooler in ("mean", "max") for variant in VARIANTS]
    pairs = [pair for pair in pairs if matrix.seeds_of(*pair)]
    if not pairs:
        return []
    found = answers.variant_differences(matrix.of_seeds(4), pairs)
    rows = [[*pair, _shown(found, q, signed=True)] for q, pair in enumerate(pairs)]
    return _table(["pooler", "variant", "log loss, minus the plain member's"], rows)


def partners_table(matrix: Matrix) -> list[str]:
    found = answers.partners(matrix.of_seeds(4))
    rows = [[name, _shown(found, q, signed=True)] for q, name in enumerate(answers.PARTNERS)]
    return _table(["partner of `mean`", "log loss of both, minus that of `mean` alone"], rows)


def _shown(found: Estimate, q: int, digits: int = 4, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    value, low, high = (f"{each[q]:{sign}.{digits}f}" for each in found[:3])
    return f"{value} ({low} to {high})".replace("-", "−")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(heads), ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


# --- figures ------------------------------------------------------------------------------------


@theme()
def order_figure(orders: dict[str, dict[str, Estimate]]):
    """The poolers' log losses beside that of `mean`, the best on top, for each competition."""
    losses = {name: order["log loss, minus mean's"] for name, order in orders.items()}
    ranks = [np.argsort(np.argsort(each.value)) for each in losses.values()]
    order_P = np.argsort(np.mean(ranks, axis=0))
    figure, all_axes = row_axes([POOLERS[p] for p in order_P], [3.2] * len(orders))
    for axes, (name, each) in zip(all_axes, losses.items(), strict=True):
        value, low, high = (part[order_P] for part in each[:3])
        dots(axes, np.arange(len(order_P)), value, low, high, BLUE)
        axes.axvline(0, color=INK, linewidth=1, zorder=1)
        axes.set_xlabel(f"{name}: log loss, minus that of mean")
    return finish(
        figure, "Single members, over four seeds, with 95 % intervals over rows and seeds"
    )


@theme()
def components_figure(components: dict[str, Estimate]):
    """Shares of the variance of a prediction."""
    figure = new_figure(7, 1.9 + 0.4 * len(components))
    axes = figure.subplots()
    left = np.zeros(len(components))
    names = ("pooler", "seed, in common to all poolers", "each training's own chance")
    for q, (name, colour) in enumerate(zip(names, (SERIES[0], SERIES[1], FAINT), strict=True)):
        share = np.array([found.value[q] for found in components.values()]).clip(0)
        axes.barh(list(components), share, left=left, color=colour, label=name, height=0.6)
        left += share
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the variance of a prediction's log odds")
    return finish(figure, "What a prediction varies with")


@theme()
def errors_figure(correlations: dict[str, Estimate]):
    """How alike the errors of two members are, for each kind of pair."""
    figure, all_axes = row_axes(list(answers.KINDS), [3.2] * len(correlations))
    for axes, (name, found) in zip(all_axes, correlations.items(), strict=True):
        dots(axes, np.arange(len(answers.KINDS)), found.value, found.low, found.high, BLUE)
        axes.set_xlabel(f"{name}: correlation of errors")
    return finish(figure, "How alike the errors of two members are")


@theme()
def curves_figure(curves: dict[str, list[Estimate]]):
    """What equal blends gain over their own members, by their size."""
    figure = new_figure(max(6.4, 4.2 * len(curves)), 4.8)
    all_axes = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (name, found) in zip(all_axes, curves.items(), strict=True):
        for n, ((scheme, _, _, sizes), each) in enumerate(zip(CURVES, found, strict=True)):
            colour, thin = SERIES[n % 3], n >= 3
            shift = 0.06 * (n % 3 - 1)
            x, n_sizes = np.array(sizes) + shift, len(sizes)
            if not thin:
                axes.vlines(
                    x,
                    each.low[:n_sizes],
                    each.high[:n_sizes],
                    color=colour,
                    alpha=0.4,
                    linewidth=2.4,
                )
            axes.plot(
                x,
                each.value[:n_sizes],
                color=colour,
                marker=MARKERS[n % 3],
                markersize=0 if thin else 5,
                linewidth=1 if thin else 1.6,
                linestyle=":" if thin else "-",
                label=None if thin or axes is not all_axes[0] else scheme,
            )
        axes.set_xlabel("m, members of the blend")
        axes.set_ylabel("gain in log loss over its members")
        axes.set_title(name, color=MUTED)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(True, axis="y")
    note = "Solid: the five poolers of medium. Dotted: seeds of mean and max, or all ten poolers."
    return finish(figure, "What equal blends gain", note)


# A block's alternative text, how its figure is drawn, and from which of the answers.
FIGURES_OF = {
    "order": ("The poolers' log losses", order_figure, "order"),
    "components": ("Shares of the variance", components_figure, "components"),
    "errors": ("Correlations of errors", errors_figure, "correlations"),
    "curves": ("Gains of equal blends by size", curves_figure, "curves"),
}
