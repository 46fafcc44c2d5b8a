"""Make docs/comparison.png, the figure of the README's comparison, from results/.

python tools/comparison_figure.py
"""

import matplotlib.pyplot as plt

from peftlab.common.paths import REPOSITORY
from peftlab.results.published import read_results
from peftlab.views import comparison


def main():
    table = read_results("strength")
    final = table[table["train_split"] == "train800val200"]
    parameters = final.groupby("label")["parameters"].first()
    figure, axes = plt.subplots(1, 2, figsize=(15, 6), width_ratios=(1.5, 1), layout="constrained")
    comparison.heatmap(final, by="label", ax=axes[0])
    comparison.front(final, parameters, "trained parameters without head", by="label", ax=axes[1])
    figure.savefig(REPOSITORY / "docs" / "comparison.png", dpi=110)


if __name__ == "__main__":
    main()
