#!/usr/bin/python3 -B
# SPDX-License-Identifier: Apache-2.0
"""Runs the same loads through several relays in alternation and writes tables and a report.

The method is in bench/README.md, "Comparing relays"; run.sh beside this file installs what is
needed, builds the release and calls this. Exit status: 0, 1 where mail was lost or a relay failed,
2 for a wrong option; whether the bars are met does not change it.
"""
import argparse
import contextlib
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import harness  # noqa: E402
import matrix  # noqa: E402
import runs  # noqa: E402
import tables  # noqa: E402
import verdict  # noqa: E402
from loopdisk import LoopDisk  # noqa: E402
from relays.exim import Exim  # noqa: E402
from relays.haraka import Haraka  # noqa: E402
from relays.opensmtpd import OpenSmtpd  # noqa: E402
from relays.postfix import Postfix  # noqa: E402
from relays.ringpost import Ringpost  # noqa: E402
from relays.ringpost_redis import RingpostRedis  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELAYS = {kind.name: kind for kind in (Ringpost, RingpostRedis, Postfix, Exim, OpenSmtpd, Haraka)}
MEMORY_FILE_SYSTEMS = {"tmpfs", "ramfs", "devtmpfs"}
QUICK_MAILS = 300


def parse_options(arguments):
    def names(known):
        def parse(text):
            chosen = text.split(",")
            for name in chosen:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"{name}: not one of {', '.join(known)}")
            return chosen
        return parse

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--relays", type=names(RELAYS), default=list(RELAYS),
                        help=f"which, in the order of a round: {','.join(RELAYS)}")
    parser.add_argument("--scenarios", type=names([s.name for s in matrix.SCENARIOS]),
                        default=[s.name for s in matrix.SCENARIOS],
                        help=",".join(s.name for s in matrix.SCENARIOS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12.0, help="length of a run")
    parser.add_argument("--quick", action="store_true",
                        help=f"one round of {QUICK_MAILS} mails a run: does it work?")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/compare",
                        help="folder for the results")
    parser.add_argument("--folder", type=pathlib.Path,
                        default=pathlib.Path("/var/tmp/ringpost-compare"),
                        help="folder for the relays' queues, on a real disk")
    parser.add_argument("--image-mib", type=int, default=0, metavar="N",
                        help="put the queues on an ext4 as mkfs makes it, in a file of N MiB in the"
                             " folder, by a loop device with direct I/O; 0: in the folder itself")
    parser.add_argument("--bench", default=os.environ.get(
        "RINGPOST_BENCH", str(ROOT / "build/release/ringpost-bench")),
        help="path of ringpost-bench")
    parser.add_argument("--lock", type=pathlib.Path,
                        help="a file to lock for each run, where others measure on this machine")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds = 1
    return options


def mount_of(path):
    """File system type and device (major:minor) of the mount that the path lies below."""
    path = path.resolve()
    best, found = -1, ("unknown", "0:0")
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            point = pathlib.Path(fields.split()[4].replace("\\040", " "))
            if path.is_relative_to(point) and len(point.parts) >= best:
                best, found = len(point.parts), (rest.split()[0], fields.split()[2])
    return found


def describe_disk(path):
    """"ext4, with a journal": without one, creating and syncing files costs other amounts."""
    kind, device = mount_of(path)
    if kind not in ("ext4", "ext3"):
        return kind
    name = pathlib.Path(f"/sys/dev/block/{device}").resolve().name
    journals = list(pathlib.Path("/proc/fs/jbd2").glob(f"{name}-*"))
    return f"{kind}, {'with' if journals else 'without'} a journal"


def check_folder(folder):
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    kind = mount_of(folder)[0]
    if kind in MEMORY_FILE_SYSTEMS:
        raise harness.Failure(f"{folder} is on {kind}, which is memory: a sync costs nothing there;"
                              " choose a folder on a disk with --folder")


def describe_machine(disk):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":")[1].strip() for line in file
                      if line.startswith("model name")), platform.machine())
    return (f"{len(os.sched_getaffinity(0))} cores of {model}, Linux {platform.release()}, "
            f"queues on {disk}")


def measure(options, kinds, runner):
    """All runs: for each scenario, rounds of one run a relay. Also what each relay syncs."""
    syncs, results = {}, []
    for kind in kinds:
        syncs[kind.name] = runner.prove(kind)
        print(f"{kind.title}: {syncs[kind.name]} syncs before the 250 of one mail", flush=True)
    for name in options.scenarios:
        for round_number in range(1, options.rounds + 1):
            for kind in kinds:
                if matrix.scenario(name).mode == "pipelined" and not kind.pipelining:
                    continue  # the tables show a dash
                result = runner.run(kind, matrix.scenario(name), round_number)
                results.append(result)
                rate, share = (verdict.member(result, paths[0])
                               for paths in (verdict.RATE, verdict.SHARE))
                print(f"{name} {round_number}/{options.rounds} {kind.title}: "
                      f"{tables.number(rate)} mails/s, share of the rate without relay "
                      f"{tables.number(share)}", flush=True)
    return syncs, results


def write_out(options, kinds, syncs, results, disk):
    versions = {run["compare"]["relay"]: run["compare"]["version"] for run in results}
    text = tables.show(results, kinds, syncs, versions, describe_machine(disk))
    (options.out / "table.md").write_text(text)
    bars = [{"scenario": v.bar.scenario, "kind": v.bar.kind, "least": v.bar.least,
             "relay": v.bar.relay, "value": v.value and v.value._asdict(), "met": v.met}
            for v in verdict.judge(results)]
    (options.out / "result.json").write_text(json.dumps(
        {"bars": bars, "syncs": syncs, "versions": versions, "runs": results}, indent=1) + "\n")
    files = sorted(str(path) for path in (options.out / "runs").glob("*.json"))
    subprocess.run([options.bench, "report", "--out", str(options.out / "report.html"), *files],
                   check=True)
    return text


def main(arguments=None):
    options = parse_options(arguments)
    # An exception, so that the relay that runs is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    kinds = [RELAYS[name] for name in options.relays]
    try:
        check_folder(options.folder)
        for kind in kinds:
            if kind.needs_root and os.geteuid() != 0:
                raise harness.Failure(f"{kind.title} needs root")
        plan = runs.Plan(options.bench, options.lock, options.seconds,
                         QUICK_MAILS if options.quick else None)
        with contextlib.ExitStack() as stack:
            queues = options.folder
            if options.image_mib:
                image = pathlib.Path(tempfile.mkdtemp(prefix="image-", dir=options.folder))
                image.chmod(0o755)
                stack.callback(shutil.rmtree, image)
                queues = stack.enter_context(LoopDisk(image, options.image_mib, True)).path
            disk = describe_disk(queues) + (" in a file" if options.image_mib else "")
            runner = runs.Runner(plan, queues, options.out)
            syncs, results = measure(options, kinds, runner)
        print(write_out(options, kinds, syncs, results, disk))
        print(f"written to {options.out}")
    except (harness.Failure, subprocess.SubprocessError, AssertionError) as failure:
        print(f"compare.py: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
