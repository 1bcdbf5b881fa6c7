# SPDX-License-Identifier: Apache-2.0
"""Mail clients as people use them: each sends one corpus case to host:port and fails if refused.

Every client is told to send the content as it is. What it changes by its nature all the same is in
ALTERS, by corpus case with the reason; test_peers.py asserts exactly that list without a relay
between, and a case that goes through the relay is compared with what its client sends.
"""
import json
import os
import pathlib
import shutil
import smtplib
import subprocess

import corpus


def run(command, content=b"", env=None, timeout_s=180):
    done = subprocess.run(command, input=content, capture_output=True, timeout=timeout_s,
                          env={**os.environ, **(env or {})})
    said = (done.stdout + done.stderr)[-2000:].decode("utf-8", "replace")
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {said}"
    return done


def file_of(folder, case):
    path = pathlib.Path(folder) / f"{case.name}.eml"
    path.write_bytes(case.content)
    return path


class Refused(AssertionError):
    """A server said no."""


def expect(what, reply):
    if reply[0] != 250:
        raise Refused(f"{what}: {reply[0]} {reply[1].decode('utf-8', 'replace')}")


def with_lmtp(host, port, case, folder):
    """smtplib speaking LMTP, for servers that are looked at without the relay."""
    with smtplib.SMTP(host, port, "client.test", timeout=180) as client:
        client.docmd("LHLO", "client.test")
        client.does_esmtp, client.ehlo_resp = True, b""
        if case.utf8:  # no LMTP server at hand has it
            raise Refused("no SMTPUTF8")
        expect("MAIL", client.mail(case.sender))
        for recipient in case.recipients:
            expect("RCPT", client.rcpt(recipient))
        expect("final", client.data(case.content))
        for _ in case.recipients[1:]:
            expect("final", client.getreply())


def with_smtplib(host, port, case, folder):
    with smtplib.SMTP(host, port, "client.test", timeout=180) as client:
        client.ehlo()
        options = ["BODY=8BITMIME"] if corpus.EIGHT in case.needs else []
        if case.utf8:
            if not client.has_extn("smtputf8"):
                raise Refused("no SMTPUTF8")
            options.append("SMTPUTF8")
            client.command_encoding = "utf-8"
        options.append(f"size={len(case.content)}")
        expect("MAIL", client.mail(case.sender, options))
        for recipient in case.recipients:
            expect("RCPT", client.rcpt(recipient))
        # smtplib adds a missing last CRLF itself, as the relay does for others.
        expect("final", client.data(case.content))


def with_swaks(host, port, case, folder):
    # swaks takes a last line with a dot as the end, and adds a line of its own where it is missing.
    ended = pathlib.Path(folder) / f"{case.name}.swaks"
    ended.write_bytes(case.expected + b".\r\n")
    command = ["swaks", "--server", host, "--port", str(port), "--ehlo", "client.test",
               "--from", case.sender or "<>", "--to", ",".join(case.recipients),
               "--data", f"@{ended}", "--suppress-data", "--hide-all"]
    run(command)


def with_msmtp(host, port, case, folder):
    settings = pathlib.Path(folder) / "msmtprc"
    settings.write_text("defaults\nset_date_header off\nset_msgid_header off\n"
                        "remove_bcc_headers off\nset_from_header off\n"
                        f"account default\nhost {host}\nport {port}\n"
                        "domain client.test\nauth off\ntls off\n")
    run(["msmtp", "-C", str(settings), "-f", case.sender, "--", *case.recipients], case.content)


def with_curl(host, port, case, folder):
    command = ["curl", "--silent", "--show-error", f"smtp://{host}:{port}/client.test",
               "--mail-from", case.sender, "--upload-file", str(file_of(folder, case))]
    for recipient in case.recipients:
        command += ["--mail-rcpt", recipient]
    run(command)


def with_nodemailer(host, port, case, folder):
    modules = os.environ.get("RINGPOST_NODE_MODULES", "")
    assert os.path.isdir(modules), "RINGPOST_NODE_MODULES must name node_modules with nodemailer"
    script = pathlib.Path(__file__).with_name("nodemailer_send.js")
    job = {"host": host, "port": port, "from": case.sender, "to": list(case.recipients),
           "file": str(file_of(folder, case)), "utf8": case.utf8,
           "eight": corpus.EIGHT in case.needs}
    run(["node", str(script)], json.dumps(job).encode(), {"NODE_PATH": modules})


ALTERS = {
    "swaks": {"header-only": "adds the empty line that ends the header",
              "no-header": "adds an empty line of its own"},
    "msmtp": {"quoted-local-part": "takes a quoted local part apart"},
    "nodemailer": {"quoted-local-part": "takes a quoted local part apart"},
}

# What the relay must refuse, by corpus case, with what the client then says: these two cannot ask
# for SMTPUTF8 (swaks ends with 23 when MAIL is refused), and of a quoted local part msmtp makes
# <@example.test>.
REFUSED = {
    "swaks": {"utf8-address": "ended with 23"},
    "msmtp": {"utf8-address": "553 5.6.7", "quoted-local-part": "501 5.1.3"},
}

CLIENTS = {
    "smtplib": with_smtplib,
    "swaks": with_swaks,
    "msmtp": with_msmtp,
    "curl": with_curl,
    "nodemailer": with_nodemailer,
}


def missing():
    """The clients whose program is not installed."""
    programs = {"swaks": "swaks", "msmtp": "msmtp", "curl": "curl", "nodemailer": "node"}
    return [name for name, what in programs.items() if not shutil.which(what)]
