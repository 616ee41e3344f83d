"""Checks that are functions, one after the other, and how they are told: a line each, at the end `N passed, M failed`."""
import traceback

CHECKS = []


def check(function):
    """Makes `function` a check."""
    CHECKS.append(function)
    return function


def same(got, wanted):
    if got != wanted:
        raise AssertionError("%r, expected %r" % (got, wanted))


def play(run, build_on_each_other=False):
    """Plays each check by `run(check)`; the status to exit with. Where they build on each other, the first failure ends it."""
    passed = failed = 0
    for function in CHECKS:
        if failed and build_on_each_other:
            failed += 1
            print("FAIL %s: not tried" % function.__name__)
            continue
        try:
            run(function)
            passed += 1
            print("ok   %s" % function.__name__)
        except Exception as error:  # whatever a library makes of an answer it does not expect
            failed += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            print("FAIL %s: %s: %s (line %s)" % (function.__name__, type(error).__name__, error, where.lineno))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0
