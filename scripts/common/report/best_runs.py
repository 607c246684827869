"""Choose the best variant of each method and head by its validation score; test scores choose nothing.

An ablation, which does not read the whole pair of texts, is never chosen.
"""

from collections.abc import Sequence

from common.report.result import Result


def groups(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the fine-tuned results of one dataset by job, method, head and number of folds, without ablations.

    The name of a group is its job; where a job has variants of several methods or heads, these are part of the name.
    """
    found: dict[tuple[str, str, str, int], list[Result]] = {}
    for result in results:
        if not result.baseline and not result.ablation:
            found.setdefault((result.job, result.method, result.head, result.folds), []).append(result)
    jobs = [job for job, *_ in found]
    return {
        job if jobs.count(job) == 1 else f"{job} ({method}, {head} head{f', {folds} folds' if folds else ''})": members
        for (job, method, head, folds), members in found.items()
    }


def best_variants(results: Sequence[Result]) -> list[Result]:
    """Return of each group of one dataset, and of each baseline, the variant with the best validation score.

    The first of equal variants is taken. All variants stay where one of them has no validation score.
    """
    baselines: dict[tuple[str, str, str, int], list[Result]] = {}
    for result in results:
        if result.baseline and not result.ablation:
            baselines.setdefault((result.job, result.baseline, result.head, result.folds), []).append(result)
    chosen: set[int] = set()
    for members in (*groups(results).values(), *baselines.values()):
        scores = [member.validation_score() for member in members]
        known = [score for score in scores if score is not None]
        best = members if len(known) < len(members) else [members[scores.index(max(known))]]
        chosen |= {id(result) for result in best}
    return [result for result in results if id(result) in chosen]


def best_model(results: Sequence[Result]) -> Result | None:
    """Return the fine-tuned result with the best validation score, None where there is no fine-tuned result."""
    tuned = [result for result in results if not result.baseline and not result.ablation]

    def score(result: Result) -> float:
        value = result.validation_score()
        return float("-inf") if value is None else value

    return max(tuned, key=score, default=None)
