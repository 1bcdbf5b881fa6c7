#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Proves that each rule of tidy.py can fail: one small tree a case, with one thing wrong in it."""
import pathlib
import tempfile
import unittest

import tidy

LICENCE = "/* SPDX-License-Identifier: Apache-2.0 */\n"


def header(path, body, lines=10):
    """A header that only fails for what is in body."""
    guard = "".join(c if c.isalnum() else "_" for c in path).upper()
    contract = "\n".join(" * contract" for _ in range(lines))
    return (f"/* SPDX-License-Identifier: Apache-2.0\n{contract}\n */\n"
            f"#ifndef {guard}\n#define {guard}\n{body}\n#endif\n")


def long_function(lines):
    return LICENCE + "void\nf(void)\n{\n" + "\t;\n" * (lines - 2) + "}\n"


UNFINISHED = "TO" + "DO"
NAP = "sl" + "eep"

# rule, file, content that must be found, content next to it that must not
CASES = [
    ("includes", "relay/smtp/a.c", '#include "core/ring.h"\n', '#include "core/base/span.h"\n'),
    ("includes", "relay/smtp/a.c", '#include "relay/message/a.h"\n', '#include "relay/smtp/a.h"\n'),
    ("includes", "core/a.c", '#include "queue/queue.h"\n', '#include "core/ring.h"\n'),
    ("includes", "core/base/a.c", '#include "core/ring.h"\n', '#include "core/base/a.h"\n'),
    ("includes", "queue/a.c", '#include "relay/smtp/a.h"\n', '#include "core/ring.h"\n'),
    ("includes", "relay/flow/a.c", '#include "queue/spool/a.h"\n', '#include "queue/queue.h"\n'),
    ("includes", "relay/flow/a.c", '#include "relay/control/a.h"\n', '#include "tls/tls.h"\n'),
    ("includes", "core/a.c", '#include "ring.h"\n', '#include <stdio.h>\n'),
    ("includes", "bench/micro/a.c", '#include "queue/spool/internal.h"\n',
     '#include "queue/spool/record.h"\n'),
    ("includes", "bench/micro/a.c", '#include "core/ring.h"\n', '#include "core/timer.h"\n'),
    ("includes", "attic/core/a.c", "", None),
    ("liburing", "queue/a.c", "#include <liburing.h>\n", "/* #include <liburing.h> */\n"),
    ("line-length", "core/a.c", "/*" + "x" * 97 + "*/\n", "/*" + "x" * 96 + "*/\n"),
    ("line-length", "core/a.c", "\t" * 12 + "abcde\n", "\t" * 12 + "abcd\n"),
    ("file-length", "core/a.c", "\n" * 1000, "\n" * 999),
    ("function-length", "core/a.c", long_function(81), long_function(80)),
    ("pure", "relay/smtp/a.c", "void *p = malloc(1);\n", "const int x = 0;\n"),
    ("pure", "relay/message/a.c", "n = time(NULL);\n", "void\nf(void)\n{\n\ta.time(1);\n}\n"),
    ("pure", "relay/message/a.c", "n = errno;\n", "/* errno */\n"),
    ("pure", "relay/message/a.c", 'printf("x");\n', 'snprintf(b, 1, "printf(1)");\n'),
    ("pure", "relay/smtp/a.c", '#include "core/base/clock.h"\n', ""),
    ("pure", "relay/smtp/a.c", "#include <unistd.h>\n", "#include <string.h>\n"),
    ("banned-call", "core/a.c", "strcpy(a, b);\n", "my_strcpy(a, b);\n"),
    ("banned-call", "core/a.c", "sprintf(a, b);\n", "snprintf(a, 1, b);\n"),
    ("banned-call", "bench/a.c", "n = atoi(a);\n", '"atoi(a)";\n'),
    ("typedef", "core/a.c", "typedef struct a b;\n", "typedef void (*f)(struct a *);\n"),
    ("goto", "core/a.c", "\tgoto again;\n", "\tgoto out;\n"),
    (NAP, "tests/a.py", f"time.{NAP}(1)\n", f"select(1)  # {NAP}\n"),
    (NAP, "tests/a.py", f"from time import {NAP}\n", "from time import monotonic\n"),
    (NAP, "tests/a.c", f"\tu{NAP}(1);\n", "\tpoll(p, 1, 10);\n"),
    (NAP, "tests/a.sh", f"true; {NAP} 1\n", f"echo '{NAP}s'\n"),
    ("unfinished", "core/a.c", f"/* {UNFINISHED}: more */\n", f"/* {UNFINISHED}S */\n"),
    ("unfinished", "README.md", UNFINISHED + "\n", "to do\n"),
    ("state", "relay/flow/a.c", "static int n;\n", "static const int n = 1;\n"),
    ("state", "relay/smtp/a.c", "static const char *t[] = { 0 };\n",
     "static const char *const t[] = { 0 };\n"),
    ("state", "relay/smtp/a.c", "int count = 0;\n", "int f(int n);\nstruct a { int n; };\n"),
    ("state", "relay/flow/a.h", header("relay/flow/a.h", "void (*hook)(int n);"),
     header("relay/flow/a.h", "void f(int n, void (*on_done)(int n));")),
    ("state", "relay/smtp/a.c", "void\nf(void)\n{\n\tstatic int n;\n}\n",
     "void\nf(void)\n{\n\tstatic const int n = 1;\n\tint m = 0;\n}\n"),
    ("state", "relay/smtp/a.c", "static struct verb { int n; } v[] = { { 1 } };\n",
     "static const struct verb { int n; void (*run)(int); } v[] = { { 1, f } };\n"),
    ("lock", "relay/flow/a.c", "pthread_mutex_lock(m);\n", "/* pthread_mutex_lock(m); */\n"),
    ("lock", "relay/smtp/a.c", "_Atomic int n;\n", ""),
    ("includes", "queue/a.c", '#include "queue/spool/a.h"\n', None),
    ("header", "tests/lib/a.h", "/* SPDX-License-Identifier: Apache-2.0 */\n",
     "/* SPDX-License-Identifier: Apache-2.0 */\n#ifndef A_H\n#define A_H\n#endif\n"),
    ("header", "core/a.h", header("core/b.h", ""), header("core/a.h", "")),
    ("header", "core/a.h", header("core/a.h", "", lines=1), header("core/a.h", "", lines=8)),
    ("compiles-alone", "core/a.h", header("core/a.h", "size_t f(void);"),
     header("core/a.h", "#include <stddef.h>\nsize_t f(void);")),
]


class EachRuleCanFail(unittest.TestCase):
    def rules_found(self, files):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in files.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            compile_it = any(name.endswith(".h") for name in files)
            return {finding.rule for finding in tidy.check(root, compile_it)}

    def licensed(self, name, text):
        if name.endswith((".py", ".sh")):
            return "# SPDX-License-Identifier: Apache-2.0\n" + text
        return text if "SPDX" in text or name.endswith(".md") else LICENCE + text

    def test_cases(self):
        for rule, name, bad, good in CASES:
            with self.subTest(rule=rule, name=name, bad=bad[:60]):
                self.assertIn(rule, self.rules_found({name: self.licensed(name, bad)}))
                if good is not None:
                    if rule == "file-length":
                        good = good[1:]  # room for the licence line
                    found = self.rules_found({name: self.licensed(name, good)})
                    self.assertEqual(found - {"untested"}, set())

    def test_licence(self):
        for name, text in (("core/a.c", "int n;\n"), ("tests/a.py", "#!/usr/bin/python3\n"),
                           ("bench/a.css", "a {}\n"), ("bench/a.html", "<p>\n"),
                           ("deploy/a", "#!/bin/sh\n"), ("tests/CMakeLists.txt", "\n")):
            with self.subTest(name=name):
                self.assertIn("licence", self.rules_found({name: text}))
        after_shebang = "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n"
        self.assertEqual(self.rules_found({"deploy/a": after_shebang}), set())

    def test_untested(self):
        module = LICENCE + '#include "core/a.h"\n'
        test = LICENCE + '#include "core/a.h"\n'
        row = "core/a.c: a reason that is one\n"
        self.assertIn("untested", self.rules_found({"core/a.c": module}))
        self.assertEqual(self.rules_found({"core/a.c": module, "tests/unit/a.c": test}), set())
        exempt = {"core/a.c": module, "tests/tidy/untested.txt": row}
        self.assertEqual(self.rules_found(exempt), set())
        self.assertIn("untested", self.rules_found({**exempt, "tests/unit/a.c": test}))
        no_reason = {"core/a.c": module, "tests/tidy/untested.txt": "core/a.c:\n"}
        self.assertIn("untested", self.rules_found(no_reason))
        self.assertIn("untested", self.rules_found({"tests/tidy/untested.txt": row}))
        part = {"core/a_part.c": module, "tests/unit/a.c": test}
        self.assertEqual(self.rules_found(part), set())
        chooser = {"queue/queue.c": LICENCE + '#include "queue/spool/spool.h"\n'}
        self.assertEqual(self.rules_found(chooser), {"untested"})

    def test_every_rule_has_a_case(self):
        source = pathlib.Path(tidy.__file__).read_text()
        in_source = set(tidy.re.findall(r'Finding\(place, \S+ "([a-z-]+)"', source))
        in_source |= set(tidy.re.findall(r'match_code\(f, "([a-z-]+)",', source))
        in_source |= set(tidy.re.findall(r'Finding\(f\.path, \w+, "([a-z-]+)"', source))
        covered = {case[0] for case in CASES} | {"licence", "untested"}
        self.assertEqual(in_source - covered, set())
        self.assertGreater(len(in_source), 14)


if __name__ == "__main__":
    unittest.main()
