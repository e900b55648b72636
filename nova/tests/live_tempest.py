"""Tempest's tests of servers, on the OpenStack of hack/openstack.sh: with runc and with vmruntime, side by side.

    python3 -m tests.live_tempest [REGEX]

Those that pass with vmruntime are in tempest.txt. It fails where that is not so, where a test passes with runc only,
and where servers have left something on the host.
"""

import configparser
import io
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import openstack
import subunit
import testtools

from tests.live_case import CHECKOUT, DIRECTORY, RUNTIME, inventory
from tests.live_images import app_layer, base_layer, saved

LIST = Path(__file__).with_name("tempest.txt")
# Those that try bad input try Nova's API, and no driver.
SUBSET = r"tempest\.api\.compute\.(servers|images)\.(?!\w*negative)"
PACKAGES = "/usr/lib/python3/dist-packages"
STESTR = ["stestr", "--test-path", f"{PACKAGES}/tempest/test_discover", "--top-dir", PACKAGES, "--parallel-class"]
HERE = DIRECTORY / "tempest"

# What the driver runs. With runc, vmruntime has but the images that containers are made of.
PROGRAMS = {
    "runc": f"""#!/bin/sh
[ "$3" = image ] && exec {RUNTIME} "$@"
exec runc "$@"
""",
    "vmruntime": f"""#!/bin/sh
exec {RUNTIME} "$@"
""",
}

PASSED, FAILED = "passed", "failed"
OUTCOMES = {"success": PASSED, "xfail": PASSED, "skip": "skipped"}


def settings(images, flavors):
    """tempest.conf: what the driver has, and nothing that it has not. No image has an sshd, so nobody looks inside."""
    return {
        "DEFAULT": {"log_file": DIRECTORY / "log/tempest.log"},
        "oslo_concurrency": {"lock_path": HERE / "locks"},
        "auth": {
            "admin_username": "admin",
            "admin_password": "secret",
            "admin_project_name": "admin",
            "admin_domain_name": "Default",
            "create_isolated_networks": False,
        },
        "identity": {"uri_v3": "http://127.0.0.1:5000/v3", "auth_version": "v3"},
        "service_available": {"neutron": True, "cinder": False, "swift": False},
        "validation": {"run_validation": False},
        "network": {"build_timeout": 300},
        "compute": {
            "image_ref": images[0],
            "image_ref_alt": images[1],
            "flavor_ref": flavors[0],
            "flavor_ref_alt": flavors[1],
            "fixed_network_name": "net",
            "build_timeout": 300,
            "max_microversion": "latest",
        },
        "compute-feature-enabled": {
            "pause": True,
            "shelve": True,
            "snapshot": True,
            "console_output": True,
            "interface_attach": True,
            "personality": True,
            "serial_console": True,
            "suspend": False,
            "resize": False,
            "rescue": False,
            "cold_migration": False,
            "live_migration": False,
            "attach_encrypted_volume": False,
        },
    }


def prepare():
    """Images, flavors and tempest.conf."""
    cloud = openstack.connect(compute_api_version="2.92")
    content = saved([base_layer(), app_layer()])
    images = [
        cloud.image.create_image(
            name, data=content, container_format="docker", disk_format="raw", validate_checksum=False,
            visibility="public", img_hv_type="docker",
        ).id
        for name in ("tempest", "tempest-other")
    ]  # fmt: skip
    flavors = [
        cloud.compute.create_flavor(name=f"tempest-{ram}", vcpus=1, ram=ram, disk=1).id for ram in (128, 160)
    ]
    HERE.mkdir(exist_ok=True)
    config = configparser.RawConfigParser()
    config.optionxform = str
    config.read_dict(settings(images, flavors))
    with (HERE / "tempest.conf").open("w") as file:
        config.write(file)


def run(name, tests):
    """What became of each test with a runtime. Tempest's own words go to the logs."""
    place = DIRECTORY / "bin/vmruntime"
    place.unlink()
    place.write_text(PROGRAMS[name])
    place.chmod(0o755)
    subprocess.run([CHECKOUT / "hack/openstack.sh", "compute"], check=True, stdin=subprocess.DEVNULL)
    results = HERE / name
    results.mkdir()
    subprocess.run(["stestr", "init"], cwd=results, check=True)
    with (DIRECTORY / f"log/tempest-{name}.out").open("wb") as log:
        subprocess.run(
            [*STESTR, "run", "--concurrency", "2", tests],
            cwd=results, env=os.environ | {"TEMPEST_CONFIG_DIR": str(HERE)}, stdout=log, stderr=log, check=False,
        )  # fmt: skip
    last = subprocess.run(["stestr", "last", "--subunit"], cwd=results, check=False, stdout=subprocess.PIPE)
    return outcomes(last.stdout)


def outcomes(stream):
    """Outcomes by the names of tests; of a class that could not be set up there is one."""
    found = {}

    def ended(test):
        if test["status"] != "exists":
            found[re.sub(r"\[.*?\]", "", test["id"])] = OUTCOMES.get(test["status"], FAILED)

    result = testtools.StreamToDict(ended)
    result.startTestRun()
    subunit.ByteStreamToStreamResult(io.BytesIO(stream), non_subunit_name="stdout").run(result)
    result.stopTestRun()
    return found


def wrong(runc, vmruntime, tests):
    """What is not as it should be, a line each."""
    with_runc, passed = ({t for t, outcome in found.items() if outcome == PASSED} for found in (runc, vmruntime))
    listed = {t for t in LIST.read_text().split() if re.search(tests, t)}
    return [
        *(f"passes with runc only: {t}" for t in sorted(with_runc - passed)),
        *(f"is in {LIST.name} and does not pass: {t}" for t in sorted(listed - passed)),
        *(f"passes and is not in {LIST.name}: {t}" for t in sorted(passed - listed)),
    ]


def main(tests=SUBSET):
    prepare()
    before = inventory()
    found, lines = {}, []
    for name in PROGRAMS:
        began = time.monotonic()
        found[name] = run(name, tests)
        count = ", ".join(f"{n} {what}" for what, n in sorted(Counter(found[name].values()).items()))
        print(f"FIGURE tempest with {name}: {count}, {time.monotonic() - began:.0f} s", flush=True)
        lines += [f"left by {name}: {what} {sorted(left)}" for what, left in leftovers(before).items()]
    for test in sorted(found["runc"] | found["vmruntime"]):
        print(*(f"{found[name].get(test, 'not run'):8}" for name in PROGRAMS), test)
    lines += wrong(found["runc"], found["vmruntime"], tests)
    print(*lines, sep="\n")
    return 1 if lines or not found["runc"] else 0


def leftovers(before):
    """What is on the host that was not before. Machines are taken away after Nova has its answer."""
    until = time.monotonic() + 20
    while True:
        left = {what: now - before[what] for what, now in inventory().items() if now - before[what]}
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
