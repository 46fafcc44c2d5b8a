"""Exercises of notebook 09_build: what the reader builds, held against the package's own. One module a build."""

from . import attention, gist, lora, masked, paca, taylor, vpt

EXERCISES = {
    f"build.{number}": build.EXERCISE
    for number, build in enumerate((attention, lora, vpt, gist, paca, taylor, masked), start=1)
}
