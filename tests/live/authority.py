# SPDX-License-Identifier: Apache-2.0
"""A certification authority of the tests' own: certificates good and bad, as files.

    authority = Authority(folder)
    certificate = authority.issue("mx1.good.test")     # .chain and .key are files
    authority.issue("mx1.good.test", expired=True)
    authority.self_signed("mx1.good.test")
    authority.file                                     # what trusts it
"""
import collections
import datetime
import itertools
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)

Certificate = collections.namedtuple("Certificate", "chain key certificate")


def name_of(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    def __init__(self, folder, name="authority of the tests"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.numbers = itertools.count(1)
        self.name = name
        self.secret = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.sign(name, [], self.secret, self.secret, name, is_ca=True)
        self.file = self.folder / "authority.pem"
        self.file.write_bytes(self.pem(self.certificate))

    @staticmethod
    def pem(certificate):
        return certificate.public_bytes(serialization.Encoding.PEM)

    @staticmethod
    def sign(subject, names, secret, issuer_secret, issuer, is_ca=False, expired=False):
        now = datetime.datetime.utcnow()
        begin, end = (now - 30 * DAY, now - DAY) if expired else (now - DAY, now + 30 * DAY)
        builder = x509.CertificateBuilder() \
            .subject_name(name_of(subject)).issuer_name(name_of(issuer)) \
            .public_key(secret.public_key()).serial_number(x509.random_serial_number()) \
            .not_valid_before(begin).not_valid_after(end) \
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        return builder.sign(issuer_secret, hashes.SHA256())

    def write(self, certificate, secret):
        base = self.folder / f"certificate-{next(self.numbers)}"
        chain, key = base.with_suffix(".pem"), base.with_suffix(".key")
        chain.write_bytes(self.pem(certificate))
        key.touch(0o600)
        key.write_bytes(secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()))
        return Certificate(chain, key, certificate)

    def issue(self, *names, expired=False):
        secret = ec.generate_private_key(ec.SECP256R1())
        return self.write(self.sign(names[0], names, secret, self.secret, self.name,
                                    expired=expired), secret)

    def self_signed(self, *names):
        secret = ec.generate_private_key(ec.SECP256R1())
        return self.write(self.sign(names[0], names, secret, secret, names[0]), secret)
