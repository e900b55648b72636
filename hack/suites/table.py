#!/usr/bin/env python3
"""table.py: docs/suites.md from build/suites/results and hack/suites/reasons.tsv."""
import collections
import glob
import json
import os

RESULTS = "build/suites/results"
WHY = {"na": "not applicable", "machine": "the machine", "suite": "the suite", "open": "not done"}
TITLES = {
    "runtime-tools": "opencontainers/runtime-tools v0.9.0",
    "bats": "runc's tests/integration",
    "crun": "crun's tests",
    "schema": "Fixtures of the specification's JSON schema",
}
HEAD = """# Third-party suites

What others wrote to judge OCI runtimes, run against vmruntime by `hack/suites.sh`, which has how, and needs the suites'
sources. A case that ran several times passes if it passed each time. This page is made by `hack/suites.sh table`.

Where a case does not pass, the reason is one of: **not applicable** (it makes no sense for a VM), **the machine** (the test
machine lacks something), **the suite** (it contradicts the specification, or runc fails it as well), **not done**.
"""


def main():
    reasons = read_reasons()
    with open("docs/suites.md", "w", encoding="utf-8") as out:
        out.write(HEAD)
        for suite in TITLES:
            files = read_results(suite, "vmruntime")
            if files:
                out.write("\n".join(section(suite, files, reasons)) + "\n")


def read_reasons():
    with open("hack/suites/reasons.tsv", encoding="utf-8") as lines:
        return [line.rstrip("\n").split("\t") for line in lines if not line.startswith("#")]


def read_results(suite, runtime):
    """{file: (number of runs, {case: (result, detail)})}; the worst result of a case counts."""
    files = {}
    for path in sorted(glob.glob(f"{RESULTS}/{suite}/{runtime}/*.json")):
        with open(path, encoding="utf-8") as text:
            runs = json.load(text)
        cases = {}
        for run in runs:
            for c in run:
                rank = ["pass", "skip", "fail"]
                if c["name"] not in cases or rank.index(c["result"]) > rank.index(cases[c["name"]][0]):
                    cases[c["name"]] = c["result"], c["detail"]
        files[os.path.basename(path)[:-len(".json")]] = len(runs), cases
    return files


def section(suite, files, reasons):
    total = collections.Counter(r for _, cases in files.values() for r, _ in cases.values())
    yield f"\n## {TITLES[suite]}\n"
    yield f"{total['pass']} passed, {total['fail']} failed, {total['skip']} were skipped by the suite.\n"
    yield from compared(suite, files)
    yield "| file | runs | passed | failed | skipped |\n|---|---|---|---|---|"
    for file, (runs, cases) in files.items():
        count = collections.Counter(r for r, _ in cases.values())
        yield f"| {file} | {runs} | {count['pass']} | {count['fail']} | {count['skip']} |"
    runc = read_results(suite, "runc")
    failed = [(file, name, detail) for file, (_, cases) in files.items() for name, (r, detail) in cases.items() if r == "fail"]
    if failed:
        yield "\n| failed | reason | |\n|---|---|---|"
        for file, name, detail in failed:
            kind, text = reason(suite, file, name, reasons)
            if not text and runc.get(file, (0, {}))[1].get(name, ("pass", ""))[0] != "pass":
                kind, text = "suite", "runc does not pass it either"
            label = name if name == file else f"{file}: {name}"
            yield f"| {escape(label)} | {WHY.get(kind, '')} | {escape(text)} |"


def compared(suite, files):
    """How many of the cases pass that others pass, where those were run."""
    others = {name: read_results(suite, name) for name in ("runc", "crun")}
    passed = [{(f, c) for f, (_, cases) in o.items() for c, (r, _) in cases.items() if r == "pass"} for o in others.values() if o]
    if len(passed) < 2:
        return
    both = set.intersection(*passed)
    ours = {(f, c) for f, (_, cases) in files.items() for c, (r, _) in cases.items() if r == "pass"}
    yield f"Of the {len(both)} cases that runc and crun both pass on the same machine, {len(both & ours)} pass.\n"


def reason(suite, file, name, reasons):
    for s, f, c, kind, text in reasons:
        if s == suite and (file == f or suite == "runtime-tools" and file.startswith(f + "_")) and (c == "*" or name.startswith(c)):
            return kind, text
    return "", ""


def escape(text):
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()
