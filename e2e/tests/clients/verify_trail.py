"""A second implementation of services/messages/docs/signature.md: checks signed trails with nothing but the roots.

usage: verify_trail.py ROOTS OUTPUT        lines of a sink's `/output` against a PEM file of roots
       verify_trail.py --vectors FILE      the test vectors

Writes one JSON object a line for each thing that is wrong; exit code 1 if there is any.
"""

import base64
import datetime
import hashlib
import json
import re
import sys

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import ExtendedKeyUsageOID

NAME = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.([a-z0-9-]+)\.ferry\.internal")
KNOWN_CRITICAL = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.NameConstraints,
    x509.SubjectAlternativeName,
)
MAX_HOPS = 33
MAX_SIGNATURE = 8 * 1024


class Broken(Exception):
    """A hop that is no evidence; the word is the one of the document."""


def canonical(value) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # Python skips what is not of the alphabet.
    if encode(data) != text:
        raise ValueError("not base64url without padding")
    return data


def digest(value) -> str:
    return encode(hashlib.sha256(canonical(value)).digest())


def extension(certificate, kind):
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


class Jws:
    def __init__(self, text: str):
        if not text:
            raise Broken("unsigned")
        try:
            if len(text.encode()) > MAX_SIGNATURE:
                raise ValueError("too long")
            self.header_text, middle, signature = text.split(".")
            if middle:
                raise ValueError("the payload must be detached")
            self.signature = decode(signature)
            header = json.loads(decode(self.header_text))
            if header["alg"] != "ES256" or "crit" in header or not 1 <= len(header["x5c"]) <= 4:
                raise ValueError("header")
            self.ferry = header.get("ferry")
            der = [base64.b64decode(item, validate=True) for item in header["x5c"]]
            self.chain = [x509.load_der_x509_certificate(item) for item in der]
            self.key = self.chain[0].public_key()
            if not isinstance(self.key, ec.EllipticCurvePublicKey) or self.key.curve.name != "secp256r1":
                raise ValueError("key")
            names = extension(self.chain[0], x509.SubjectAlternativeName)
        except Broken:
            raise
        except Exception as error:
            raise Broken("malformed") from error
        names = names.get_values_for_type(x509.DNSName) if names else []
        match = NAME.fullmatch(names[0]) if len(names) == 1 else None
        if not match:
            raise Broken("no-identity")
        self.name = names[0]
        self.pod, self.cluster, self.blueprint = match.groups()

    def fits(self, message_id: str, before: str, hop: dict) -> bool:
        payload = encode(canonical({"before": before, "hop": hop, "id": message_id}))
        if len(self.signature) != 64:
            return False
        r, s = (int.from_bytes(part, "big") for part in (self.signature[:32], self.signature[32:]))
        try:
            signature = utils.encode_dss_signature(r, s)
            signed = f"{self.header_text}.{payload}".encode()
            self.key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True

    def check_signature(self, message_id: str, before: str, hop: dict) -> None:
        if self.fits(message_id, before, hop):
            return
        if not self.ferry:
            raise Broken("forged")
        if self.ferry["hop"] != digest(hop):
            raise Broken("altered")
        if not self.fits(self.ferry["id"], self.ferry["before"], hop):
            raise Broken("forged")
        raise Broken("dropped" if self.ferry["id"] == message_id else "replayed")

    def check_times(self, at: datetime.datetime) -> None:
        second = at.replace(microsecond=0)
        for certificate in self.chain:
            if not certificate.not_valid_before_utc <= second <= certificate.not_valid_after_utc:
                raise Broken("not-valid-then")
        for subject, issuer in zip(self.chain, self.chain[1:]):
            if subject.not_valid_after_utc > issuer.not_valid_after_utc:
                raise Broken("outlives-authority")

    def check_chain(self, roots: list) -> None:
        for subject, issuer in zip(self.chain, self.chain[1:]):
            issued_by(subject, issuer)
        last = self.chain[-1]
        if not any(is_issued_by(last, root) for root in roots):
            raise Broken("other-root")
        for depth, authority in enumerate(self.chain[1:]):
            constraints = extension(authority, x509.BasicConstraints)
            usage = extension(authority, x509.KeyUsage)
            if not constraints or not constraints.ca or (usage and not usage.key_cert_sign):
                raise Broken("bad-chain")
            if constraints.path_length is not None and constraints.path_length < depth:
                raise Broken("bad-chain")
        usages = extension(self.chain[0], x509.ExtendedKeyUsage)
        if usages and ExtendedKeyUsageOID.CLIENT_AUTH not in usages:
            raise Broken("bad-chain")
        leaf = extension(self.chain[0], x509.BasicConstraints)
        if leaf and leaf.ca:
            raise Broken("bad-chain")
        for certificate in self.chain:
            for item in certificate.extensions:
                if item.critical and not isinstance(item.value, KNOWN_CRITICAL):
                    raise Broken("bad-chain")
        for authority in [*self.chain[1:], *roots]:
            self.check_constraints(authority)

    def check_constraints(self, authority) -> None:
        constraints = extension(authority, x509.NameConstraints)
        if not constraints:
            return
        permitted = [item.value for item in constraints.permitted_subtrees or [] if isinstance(item, x509.DNSName)]
        excluded = [item.value for item in constraints.excluded_subtrees or [] if isinstance(item, x509.DNSName)]
        if permitted and not any(within(self.name, tree) for tree in permitted):
            raise Broken("name-not-permitted")
        if any(within(self.name, tree) for tree in excluded):
            raise Broken("name-not-permitted")


def within(name: str, tree: str) -> bool:
    tree = tree.lower().lstrip(".")
    return not tree or name == tree or name.endswith("." + tree)


def is_issued_by(subject, issuer) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except Exception:
        return False
    return True


def issued_by(subject, issuer) -> None:
    if not is_issued_by(subject, issuer):
        raise Broken("other-root")


def unsigned(hop: dict) -> dict:
    return {name: value for name, value in hop.items() if name != "signature"}


def moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def check_hop(message_id: str, before: list, hop: dict, roots: list) -> Jws:
    jws = Jws(hop["signature"])
    jws.check_signature(message_id, digest(before), unsigned(hop))
    jws.check_times(moment(hop["at"]))
    jws.check_chain(roots)
    if hop["cluster"] != jws.cluster or hop["namespace"] != f"{jws.blueprint}-{jws.pod}-ns":
        raise Broken("wrong-identity")
    return jws


def signed_before(hop: dict):
    try:
        return Jws(hop["signature"]).ferry["before"]
    except (Broken, KeyError, TypeError):
        return None


def diagnose(trail: list, broken: list) -> list:
    """What happened to the hops whose signer signed another trail before them."""
    signed = [signed_before(hop) for hop in trail]
    order, chain = [], []
    while True:
        wanted = digest(chain)
        following = [at for at in range(len(trail)) if at not in order and signed[at] == wanted]
        if not following:
            break
        order.append(following[0])
        chain.append(trail[following[0]])
    clear = []
    for index, problem in broken:
        if problem == "dropped":
            before = trail[:index]
            without = [digest(before[:at] + before[at + 1 :]) for at in range(index)]
            if trail[index] in before:
                problem = "repeated"
            elif len(order) == len(trail) and order.index(index) != index:
                problem = "reordered"
            elif clear:
                # It only follows a broken one.
                continue
            elif signed[index] in without:
                problem = "added"
        clear.append((index, problem))
    return clear


def check_trail(message_id: str, trail: list, roots: list) -> tuple:
    """The signers, and the broken hops with what is wrong with each."""
    signers, broken = [], []
    for index, hop in enumerate(trail):
        try:
            signers.append(check_hop(message_id, trail[:index], hop, roots))
        except Broken as problem:
            broken.append((index, str(problem)))
    return signers, diagnose(trail, broken)


def check_output(lines, roots: list):
    last, seen = None, set()
    for stored in lines:
        message = stored["message"]
        trail = message["trail"]

        def wrong(problem: str, hop=None) -> dict:
            return {"index": stored["index"], "hop": hop, "problem": problem}

        if last:
            if stored["index"] <= last["index"]:
                yield wrong("out-of-order")
            elif stored["index"] - last["index"] > 1:
                yield wrong("messages-missing")
        last = stored
        if len(trail) > MAX_HOPS:
            yield wrong("too-long")
            continue
        signers, broken = check_trail(message["id"], trail, roots)
        if broken:
            for index, problem in broken:
                yield wrong(problem, index + 1)
            continue
        if not trail or trail[0]["role"] != "gateway" or trail[-1]["role"] != "sink":
            yield wrong("incomplete")
        elif any(signer.blueprint != message["blueprint"] for signer in signers):
            yield wrong("other-blueprint")
        key = (message["id"], *(signer.name for signer in signers))
        if key in seen:
            yield wrong("stored-twice")
        seen.add(key)


def check_vectors(vectors: dict):
    roots = x509.load_pem_x509_certificates(vectors["roots"].encode())
    for case in vectors["cases"]:
        signers, broken = check_trail(case["id"], case["trail"], roots)
        found = [{"hop": hop, "problem": problem} for hop, problem in broken]
        names = [signer.name for signer in signers]
        if found != case.get("broken", []) or ("signers" in case and names != case["signers"]):
            yield {"case": case["name"], "found": found, "signers": names}
    trail = vectors["cases"][0]["trail"]
    for index, step in enumerate(vectors["steps"]["hops"]):
        before = digest(trail[:index])
        payload = {"before": before, "hop": unsigned(trail[index]), "id": vectors["cases"][0]["id"]}
        if step != {"before": before, "payload": canonical(payload).decode()}:
            yield {"step": index}


def main() -> int:
    if sys.argv[1] == "--vectors":
        with open(sys.argv[2], encoding="utf-8") as file:
            wrong = list(check_vectors(json.load(file)))
    else:
        with open(sys.argv[1], "rb") as file:
            roots = x509.load_pem_x509_certificates(file.read())
        with open(sys.argv[2], encoding="utf-8") as file:
            wrong = list(check_output((json.loads(line) for line in file if line.strip()), roots))
    for finding in wrong:
        print(json.dumps(finding))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
