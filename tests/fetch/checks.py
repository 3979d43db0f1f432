"""What the tests of this folder share: an environment without proxies, and counted checks.

SPDX-License-Identifier: Apache-2.0
"""
import os
import sys

environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith(("HF_", "HUGGING", "XDG_"))}
results = []


def check(good, what):
    results.append(bool(good))
    if not good:
        print(f"FAILED {what}", flush=True)


def finish():
    """Says how many passed; ends the program."""
    print(f"{results.count(True)} passed, {results.count(False)} failed")
    sys.exit(False in results)
