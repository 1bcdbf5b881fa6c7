#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tidy: holds the tree to the part of the house style that a machine can judge.

usage: tidy.py [--root FOLDER] [--no-compiler]

Prints one line a finding, `file:line: rule: text`, and ends with 1 when there is one. Each rule is
a function over one file (or over the tree) that yields findings; test_tidy.py proves of each rule
that it can fail. Comments and the insides of string literals are blanked before a rule about code
looks at it, so a comment may name what the code must not use.

Exemptions are in untested.txt alone, with a reason each; no rule can be silenced in place.
"""
import argparse
import pathlib
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

LINE_MAX = 100
FUNCTION_MAX = 80
FILE_MAX = 1000
TAB = 8

BASE = ("core/base", "core/tables")
PURE = ("relay/smtp", "relay/message")
# Pure modules in folders that are not.
PURE_FILES = tuple(
    f"dns/{name}.c" for name in
    "name packet hosts_file resolv_conf mx spf spf_begin spf_record spf_macro idn".split()
) + ("tls/dane.c", "queue/redis/pack.c")
# What a folder may include: folders, or single headers. A folder that is not named here may hold
# no C file.
MAY_INCLUDE = {
    "core/tables": ("core/tables",),
    "core/base": BASE,
    "relay/smtp": BASE + ("relay/smtp",),
    "relay/message": BASE + ("relay/message",),
    "core": BASE + ("core",),
    "dns": BASE + ("core", "dns"),
    "tls": BASE + ("core", "dns", "tls"),
    "queue": BASE + ("core", "dns", "tls", "queue"),
    "queue/turns": BASE + ("core", "dns", "tls", "queue", "queue/turns"),
    "queue/spool": BASE + ("core", "dns", "tls", "queue", "queue/turns", "queue/spool"),
    "queue/redis": BASE + ("core", "dns", "tls", "queue", "queue/turns", "queue/redis"),
    "queue/pair": BASE + ("core", "dns", "tls", "queue", "queue/pair"),
    "relay/flow": BASE + PURE + ("core", "dns", "tls", "queue", "relay/flow"),
    "relay/admin": BASE + ("queue/mail.h", "relay/admin"),
    "relay/ctl": BASE + ("relay/smtp", "core/config.h", "core/file.h", "dns", "relay/admin",
                         "relay/ctl"),
    "relay/control": BASE + PURE + ("core", "dns", "tls", "queue", "relay/flow", "relay/admin",
                                    "relay/control"),
    "relay": None,  # main: everything
    "bench": BASE + PURE + ("core", "dns", "tls", "bench"),
    "bench/micro": BASE + PURE + (
        "bench/micro", "core/log.h", "core/mailbox.h", "core/metric.h", "core/timer.h",
        "core/worker.h", "dns", "queue/mail.h", "queue/spool/crc32c.h", "queue/spool/record.h"),
    "tests": None,
}
# The one place that knows every driver: what turns the option into the store.
MAY_INCLUDE_TOO = {"queue/queue.c": ("queue/spool", "queue/redis", "queue/pair")}
PRODUCTION = ("core", "dns", "tls", "queue", "relay", "bench")
SKIP_FOLDERS = {".git", "build", "node_modules", "__pycache__", ".pytest_cache"}
TEXT_SUFFIXES = {".c", ".h", ".def", ".lua", ".py", ".sh", ".js", ".css", ".html", ".txt",
                 ".cmake", ".md", ".yaml", ".yml", ".smtp", ".dict", ".json"}


class Finding:
    def __init__(self, path, line, rule, text):
        self.path, self.line, self.rule, self.text = path, line, rule, text

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


def blank_comments_and_strings(text):
    """The same text, as long and with the same lines, without comments and literals' insides."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''

    def blank(match):
        found = match.group()
        if found[0] in "\"'":
            return found[0] + " " * (len(found) - 2) + found[-1]
        return re.sub(r"[^\n]", " ", found)
    return re.sub(pattern, blank, text, flags=re.S)


class File:
    def __init__(self, root, path):
        self.path = path.relative_to(root).as_posix()
        self.folder = path.parent.relative_to(root).as_posix()
        self.suffix = path.suffix
        self.text = path.read_text(encoding="utf-8", errors="replace")
        self.lines = self.text.split("\n")
        self.is_c = self.suffix in (".c", ".h", ".def")
        self.code = blank_comments_and_strings(self.text) if self.is_c else self.text
        self.is_script = self.suffix in (".py", ".sh", ".js") or self.text.startswith("#!")

    def in_any(self, folders):
        return any(self.path.startswith(folder + "/") for folder in folders)

    def line_at(self, offset):
        return self.text.count("\n", 0, offset) + 1


def layer_of(folder):
    """The row of MAY_INCLUDE for a folder: its own, or that of the nearest folder above."""
    while folder not in MAY_INCLUDE and "/" in folder:
        folder = folder.rsplit("/", 1)[0]
    return folder if folder in MAY_INCLUDE else None


def match_code(f, rule, pattern, text):
    for match in re.finditer(pattern, f.code, flags=re.M):
        yield Finding(f.path, f.line_at(match.start()), rule, text.format(match.group(1)))


# --- rules over one file; each is named after what it forbids or asks for -----------------------

def includes_go_one_way(f):
    if not f.is_c:
        return
    own = layer_of(f.folder)
    if own is None:
        yield Finding(f.path, 1, "includes", "no layer of that folder; name it in tests/tidy")
        return
    for number, line in enumerate(f.lines, 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        target = match.group(1)
        layer = layer_of(target.rsplit("/", 1)[0]) if "/" in target else None
        if layer is None:
            yield Finding(f.path, number, "includes", f'"{target}" is no path from the root')
        elif MAY_INCLUDE[own] is not None and not {layer, target} & set(
                MAY_INCLUDE[own] + MAY_INCLUDE_TOO.get(f.path, ())):
            yield Finding(f.path, number, "includes", f"{own} must not see {layer} ({target})")


def liburing_is_behind_the_ring(f):
    if f.is_c and f.path != "core/ring.c" and not f.in_any(("tests",)):
        yield from match_code(f, "liburing", r"^\s*#\s*include\s*<(liburing[^>]*)>",
                              "<{}> belongs to core/ring.c alone")


def lines_fit(f):
    if f.suffix in (".md", ".json", ".smtp", ".dict", ".def"):
        return
    for number, line in enumerate(f.lines, 1):
        if len(line.expandtabs(TAB)) > LINE_MAX:
            yield Finding(f.path, number, "line-length", f"longer than {LINE_MAX} columns")


def files_fit(f):
    if f.suffix in (".c", ".h", ".py", ".sh") and len(f.lines) - 1 > FILE_MAX:
        yield Finding(f.path, FILE_MAX, "file-length", f"longer than {FILE_MAX} lines")


def functions_fit(f):
    if f.suffix not in (".c", ".h"):
        return
    start = None
    for number, line in enumerate(f.code.split("\n"), 1):
        if line.rstrip() == "{":
            start = number
        elif line.startswith("}") and start is not None:
            if number - start + 1 > FUNCTION_MAX:
                yield Finding(f.path, start, "function-length",
                              f"{number - start + 1} lines, at most {FUNCTION_MAX}")
            start = None


def pure_code_touches_nothing(f):
    if f.suffix not in (".c", ".h") or not (f.in_any(PURE) or f.path in PURE_FILES):
        return
    calls = ("malloc calloc realloc free strdup strndup time gettimeofday clock_gettime "
             "clock_monotonic_ms clock_monotonic_us clock_wall_ms random_u64 getrandom rand random "
             "printf puts putchar fprintf fputs perror syslog open read write close socket "
             "connect send recv getenv exit").replace(" ", "|")
    yield from match_code(f, "pure", rf"(?<![\w.>])({calls})\s*\(", "{}() in pure code")
    yield from match_code(f, "pure", r"\b(errno)\b", "{} in pure code")
    yield from match_code(f, "pure", r"\b(stdout|stderr|stdin)\b", "{} in pure code")
    headers = r"errno|unistd|fcntl|pthread|sys/socket|sys/stat|sys/mman|netdb|signal"
    yield from match_code(f, "pure", rf"#\s*include\s*<((?:{headers})\.h)>", "<{}> in pure code")
    for number, line in enumerate(f.lines, 1):
        if re.match(r'\s*#\s*include\s+"core/base/clock.h"', line):
            yield Finding(f.path, number, "pure", "time is an argument of pure code")


def no_dangerous_calls(f):
    if f.suffix in (".c", ".h") and not f.in_any(("tests",)):
        calls = "strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atoll|strtok|alloca"
        yield from match_code(f, "banned-call", rf"\b({calls})\s*\(", "{}()")


def no_typedef_of_structs(f):
    if f.suffix in (".c", ".h"):
        yield from match_code(f, "typedef", r"\btypedef\s+((?:const\s+)?(?:struct|union|enum)\b)"
                              r"(?![^;]*\()", "typedef of a {}")


def goto_goes_to_out(f):
    if f.suffix in (".c", ".h"):
        yield from match_code(f, "goto", r"\bgoto\s+(?!out\s*;)(\w+)", "goto {}, only out is used")


def tests_wait_on_events(f):
    if not f.in_any(("tests", "deploy", ".ci")):
        return
    calls = "sleep usleep nanosleep".split()
    if f.suffix in (".c", ".h"):
        yield from match_code(f, "sleep", rf"\b({'|'.join(calls)})\s*\(", "{}() in a test")
    elif f.suffix == ".py":
        pattern = rf"\b((?:time|asyncio)\.{calls[0]})\s*\("
        yield from match_code(f, "sleep", pattern, "{}() in a test")
        yield from match_code(f, "sleep", rf"from\s+time\s+import\s+.*\b({calls[0]})\b", "{}")
    elif f.is_script:
        yield from match_code(f, "sleep", rf"(?:^|[;&|(]|\bdo\b|\bthen\b)\s*({calls[0]})\s+[\d$]",
                              "{} in a script")


def nothing_is_left_to_do(f):
    words = "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3))
    for number, line in enumerate(f.lines, 1):
        if re.search(rf"\b({words})\b", line):
            yield Finding(f.path, number, "unfinished", "do it, or leave the note out")


def file_scope_declarations(code):
    """Yields (offset, text) of each declaration outside braces; what braces hold is left out."""
    start, depth, text = 0, 0, ""
    for offset, c in enumerate(code):
        if c == "{":
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                text += "{}"
                if re.search(r"\)\s*\{\}$", text):  # the body of a function
                    start, text = offset + 1, ""
        elif depth == 0 and c == ";":
            yield start, text
            start, text = offset + 1, ""
        elif depth == 0:
            text += c


def is_mutable_object(declaration):
    text = " ".join(declaration.split())
    text = re.sub(r"^(static|extern|_Thread_local|inline|\s)+", "", text)
    head = text.split("=")[0].strip()
    head = re.sub(r"__attribute__\s*\(\(.*?\)\)", "", head).strip()
    if not head or head.startswith(("typedef", "_Static_assert")):
        return False
    if re.fullmatch(r"(struct|union|enum)\b\s*\w*\s*(\{\})?", head):
        return False
    opening = head.find("(")
    if opening >= 0 and not head[opening + 1:].lstrip().startswith("*"):
        return False  # a prototype, or a macro that stands for one
    if "*" in head:
        return not re.search(r"\bconst\b", head[head.rindex("*"):])
    return not re.search(r"\bconst\b", head)


def no_mutable_state_between_calls(f):
    if f.suffix not in (".c", ".h") or not f.in_any(PURE + ("relay/flow",)):
        return
    code = re.sub(r"^\s*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group()),
                  f.code, flags=re.M)
    for offset, text in file_scope_declarations(code):
        if is_mutable_object(text):
            begin = offset + len(text) - len(text.lstrip())
            yield Finding(f.path, f.line_at(begin), "state",
                          f"mutable at file scope: {' '.join(text.split())[:60]}")
    for match in re.finditer(r"^[ \t]+(static\b[^;={(]*)", code, flags=re.M):
        if is_mutable_object(match.group(1)):
            yield Finding(f.path, f.line_at(match.start()), "state",
                          f"mutable in a function: {match.group(1).strip()[:60]}")


def no_locks_in_flow(f):
    if f.suffix not in (".c", ".h") or not f.in_any(PURE + ("relay/flow",)):
        return
    text = "{}: threads meet in the mailbox and in core/limits.h"
    yield from match_code(f, "lock", r"\b(pthread_(?:mutex|rwlock|spin|cond)\w*|mtx_\w+|"
                          r"sem_(?:wait|post|init))\b", text)
    if f.in_any(PURE):  # flow may count references to what the workers share read-only
        yield from match_code(f, "lock", r"\b(atomic_\w+|_Atomic)\b", text)


def licence_line_is_first(f):
    if f.suffix in (".json", ".md", ".dict", ".smtp") or f.path.endswith("untested.txt"):
        return
    if not (f.is_c or f.is_script or f.suffix in (".cmake", ".yaml", ".yml", ".css", ".html")
            or f.path.endswith("CMakeLists.txt")):
        return
    first = f.lines[1] if f.text.startswith("#!") and len(f.lines) > 1 else f.lines[0]
    if "SPDX-License-Identifier: Apache-2.0" not in first:
        yield Finding(f.path, 1, "licence", "SPDX line missing at the top")


def headers_are_contracts(f):
    if f.suffix != ".h":
        return
    if f.in_any(("tests",)):
        if "#ifndef" not in f.text:
            yield Finding(f.path, 1, "header", "include guard missing")
        return
    guard = re.sub(r"\W", "_", f.path).upper()
    if not re.search(rf"^#ifndef {guard}\n#define {guard}$", f.text, flags=re.M):
        yield Finding(f.path, 1, "header", f"include guard {guard} missing")
    opening = re.match(r"/\*.*?\*/", f.text, flags=re.S)
    lines = opening.group().count("\n") + 1 if opening else 0
    if not 4 <= lines <= 40:
        yield Finding(f.path, 1, "header", f"opens with {lines} lines of contract, asked: 10 to 30")


FILE_RULES = (
    includes_go_one_way, liburing_is_behind_the_ring, lines_fit, files_fit, functions_fit,
    pure_code_touches_nothing, no_dangerous_calls, no_typedef_of_structs, goto_goes_to_out,
    tests_wait_on_events, nothing_is_left_to_do, no_mutable_state_between_calls, no_locks_in_flow,
    licence_line_is_first, headers_are_contracts,
)


# --- rules over the tree ------------------------------------------------------------------------

def read_exemptions(root):
    path = root / "tests/tidy/untested.txt"
    if not path.exists():
        return {}
    rows = {}
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition(":")
            rows[name.strip()] = (number, reason.strip())
    return rows


def own_headers(f):
    """The headers that a .c file may be a body of: the one of its name, those with a name that its
    own begins with (sender_command.c is a part of sender.h), and the one with the name of its
    folder, or of what that is (everything in queue/spool is behind spool.h, in queue/redis behind
    store.h)."""
    folder, stem = f.path[:-2].rsplit("/", 1)
    words = stem.split("_")
    parts = {f"{folder}/{'_'.join(words[:count])}.h" for count in range(1, len(words) + 1)}
    return parts | {f"{folder}/{folder.rsplit('/', 1)[-1]}.h", f"{folder}/store.h"}


def modules_are_tested(root, files):
    """A module counts as tested when a file below tests/ includes its header."""
    included = set()
    for f in files:
        if f.path.startswith("tests/") and f.is_c:
            included.update(re.findall(r'#\s*include\s+"([^"]+)"', f.text))
    exempt = read_exemptions(root)
    place = "tests/tidy/untested.txt"
    for f in files:
        if f.suffix != ".c" or not f.in_any(PRODUCTION):
            continue
        tested = bool(own_headers(f) & included)
        row = exempt.pop(f.path, None)
        if row is None and not tested:
            yield Finding(f.path, 1, "untested", "no test includes its header, no reason given")
        elif row is not None and tested:
            yield Finding(place, row[0], "untested", f"{f.path} is tested: the row is stale")
        elif row is not None and len(row[1]) < 10:
            yield Finding(place, row[0], "untested", f"{f.path}: a reason is missing")
    for name, row in exempt.items():
        yield Finding(place, row[0], "untested", f"{name} does not exist: the row is stale")


def compiler_flags():
    wanted = ("liburing yaml-0.1 libmicrohttpd hiredis libunbound openssl jansson "
              "libcurl libidn2 cmocka").split()
    flags = []
    for package in wanted:
        run = subprocess.run(["pkg-config", "--cflags", package], capture_output=True, text=True)
        if run.returncode == 0:
            flags += shlex.split(run.stdout)
    return flags


def headers_compile_alone(root, files):
    flags = compiler_flags()

    def compile_one(f):
        return f, subprocess.run(
            ["cc", "-std=gnu11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE",
             *flags, "-I", str(root), "-include", f.path, "-x", "c", "/dev/null"],
            cwd=root, capture_output=True, text=True)

    headers = [f for f in files if f.suffix == ".h"]
    with ThreadPoolExecutor(2) as workers:
        for f, run in workers.map(compile_one, headers):
            if run.returncode != 0:
                first = next((line for line in run.stderr.split("\n") if "error" in line), "?")
                yield Finding(f.path, 1, "compiles-alone", first)


def read_tree(root):
    files = []
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if SKIP_FOLDERS & set(parts) or not path.is_file() or path.is_symlink():
            continue
        if path.suffix in TEXT_SUFFIXES:
            files.append(File(root, path))
        elif path.suffix == "" and path.read_bytes()[:2] == b"#!":
            files.append(File(root, path))
    return files


def check(root, with_compiler=True):
    """All findings in the tree at root, in the order of the files."""
    files = read_tree(root)
    findings = [finding for f in files for rule in FILE_RULES for finding in rule(f)]
    findings += modules_are_tested(root, files)
    if with_compiler:
        findings += headers_compile_alone(root, files)
    return findings


def main():
    parser = argparse.ArgumentParser()
    here = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--root", type=pathlib.Path, default=here)
    parser.add_argument("--no-compiler", action="store_true")
    options = parser.parse_args()
    findings = check(options.root.resolve(), not options.no_compiler)
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
