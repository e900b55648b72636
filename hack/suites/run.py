#!/usr/bin/env python3
"""run.py SUITE RUNTIME PATH TIMES FILE...: what hack/suites.sh calls.

Runs each file of a suite TIMES times and writes build/suites/results/SUITE/RUNTIME/
FILE.json: a list of runs, each a list of cases {"name", "result", "detail"}, where
result is pass, fail or skip.
"""
import json
import os
import pty
import re
import runpy
import subprocess
import sys
import tempfile

TOP = os.getcwd()
SRC = os.path.join(TOP, "build/suites/src")
# In seconds: a machine without KVM under load is slow.
FILE_TIMEOUT, CASE_TIMEOUT = 1800, 90

# What keeps a runtime from deleting a container keeps the suite from ending.
HARMFUL = "test_simple_delete"


def main():
    if sys.argv[1] == "--names":
        return print_names(sys.argv[2])
    suite, runtime, path, times, *files = sys.argv[1:]
    results = os.path.join(TOP, "build/suites/results", suite, runtime)
    os.makedirs(results, exist_ok=True)
    run = {"bats": bats, "crun": crun, "runtime-tools": runtime_tools, "schema": schema}[suite]
    failed = 0
    for file in files:
        runs = []
        for _ in range(int(times)):
            with open(os.path.join(results, file + ".log"), "w", encoding="utf-8") as log:
                runs.append(list(run(path, file, log)))
            count = {r: sum(c["result"] == r for c in runs[-1]) for r in ("pass", "fail", "skip")}
            failed += count["fail"]
            print(f"{file}: {count['pass']} passed, {count['fail']} failed, {count['skip']} skipped", flush=True)
        with open(os.path.join(results, file + ".json"), "w", encoding="utf-8") as out:
            json.dump(runs, out, indent=1)
    return 1 if failed else 0


def case(name, result, detail=""):
    return {"name": name, "result": result, "detail": detail.strip()[-2000:]}


def output_of(argv, log, timeout, **kwargs):
    """Output and exit status of a command, whatever bytes it prints."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False, **kwargs)
        text, status = done.stdout.decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as e:
        text, status = (e.stdout or b"").decode(errors="replace") + f"\nno end within {timeout} s\n", -1
    log.write(text)
    return text, status


TAP = re.compile(r"^(not )?ok \d+(?: -)? ?(.*?)(?: in \d+ms)?(?: # ?(?i:skip)(.*))?$")


def tap(text):
    """The cases of a TAP stream; lines after one that failed are its detail."""
    current, detail = None, []
    for line in text.replace("\r", "").splitlines():
        match = TAP.match(line)
        if not match:
            detail.append(line.removeprefix("# "))
            continue
        if current:
            yield case(*current, "\n".join(detail))
        failed, name, skip = match.groups()
        name = re.sub(r" # \d+\.\d+s$", "", name)
        current, detail = (name, "fail" if failed else "pass" if skip is None else "skip"), [skip or ""]
    if current:
        yield case(*current, "\n".join(detail))


def bats(path, file, log):
    """runc wants a terminal to run with, and an input that does not end."""
    directory = os.path.join(SRC, "runc/tests/integration")
    env = dict(os.environ, RUNC=path)
    _, ours = pty.openpty()
    argv = ["script", "-qefc", f"bats -F tap -T {file}.bats", "/dev/null"]
    text, _ = output_of(argv, log, FILE_TIMEOUT, cwd=directory, env=env, stdin=ours)
    return tap(text)


def crun(path, file, log):
    """Each case in a process of its own: one that hangs takes no other along."""
    tests = os.path.join(SRC, "crun/tests")
    env = dict(os.environ, RUNTIME=path, OCI_RUNTIME=os.path.join(TOP, "hack/suites/crun-runtime"), INIT=os.path.join(tests, "init"), PYTHONPATH=tests + ":" + os.path.join(TOP, "hack/suites/lib"))
    script = os.path.join(tests, file + ".py")
    names = subprocess.run([sys.executable, __file__, "--names", script], stdout=subprocess.PIPE, env=env, check=True, text=True).stdout
    for name in names.split():
        if name == HARMFUL:
            yield case(name, "skip", "it freezes a process in a cgroup of the host, which outlives the suite")
            continue
        with tempfile.TemporaryDirectory() as directory:
            argv = [sys.executable, script]
            text, _ = output_of(argv, log, CASE_TIMEOUT, cwd=directory, env=dict(env, RUN_TESTS=name), stdin=subprocess.DEVNULL)
            clean(path, directory)
        cases = [c for c in tap(text) if c["name"] == name]
        yield dict(cases[0], detail=text[-2000:]) if cases else case(name, "fail", text)


def clean(path, directory):
    """Removes the containers that a case has left behind."""
    for name in os.listdir(directory):
        root = os.path.join(directory, name, "root")
        for container in os.listdir(root) if os.path.isdir(root) else []:
            subprocess.run([path, "--root", root, "delete", "--force", container], check=False, capture_output=True)


def print_names(script):
    """The names of the cases of one of crun's files, one a line."""
    import tests_utils  # pylint: disable=import-error,import-outside-toplevel
    tests_utils.tests_main = lambda tests: print(*tests, sep="\n")
    runpy.run_path(script, run_name="__main__")


def runtime_tools(path, file, log):
    """One program is one case: some report a failure only as an error in YAML."""
    directory = os.path.join(SRC, "runtime-tools")
    text, status = output_of([f"validation/{file}.t"], log, FILE_TIMEOUT, cwd=directory, env=dict(os.environ, RUNTIME=path), stdin=subprocess.DEVNULL)
    points = [c for c in tap(text) if c["name"] or c["result"] != "pass"]
    bad = [c for c in points if c["result"] == "fail"]
    silent = not re.search(r"^ok ", text, re.M) and re.search(r'^ *"?error"?: ', text, re.M)
    if bad or silent or status:
        yield case(file, "fail", "\n".join(c["name"] + "\n" + c["detail"] for c in bad) or text)
    elif points and all(c["result"] == "skip" for c in points):
        yield case(file, "skip", points[0]["detail"])
    else:
        yield case(file, "pass")


def schema(path, file, log):
    """A good config.json is accepted or refused for a field by name, a bad one refused."""
    directory = os.path.join(SRC, "runtime-spec/schema/test/config", file)
    for name in sorted(os.listdir(directory)):
        yield fixture(path, file, os.path.join(directory, name), log)


UNSUPPORTED = re.compile(r"config\.json: [a-zA-Z]+[\w.\[\]]*(: | is missing)")


def fixture(path, kind, config, log):
    name = os.path.basename(config)
    with tempfile.TemporaryDirectory() as bundle:
        with open(config, encoding="utf-8") as text:
            spec = text.read()
        with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as out:
            out.write(spec)
        try:
            os.makedirs(os.path.join(bundle, json.loads(spec).get("root", {}).get("path", "rootfs").lstrip("/")), exist_ok=True)
        except (ValueError, AttributeError):
            pass
        text, status = output_of([path, "--root", os.path.join(bundle, "state"), "create", "--bundle", bundle, "schema"], log, CASE_TIMEOUT, stdin=subprocess.DEVNULL)
        subprocess.run([path, "--root", os.path.join(bundle, "state"), "delete", "--force", "schema"], check=False, capture_output=True)
    log.write(f"{name}: {status} {text}\n")
    refused = status != 0 and text.startswith("config.json")
    sound = refused if kind == "bad" else status == 0 or bool(UNSUPPORTED.match(text))
    return case(name, "pass" if sound else "fail", text)


if __name__ == "__main__":
    sys.exit(main())
