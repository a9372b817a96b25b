"""Transparency log proofs and signed notes, verified from their specifications alone (RFC 6962 and 9162, RFC 8032, C2SP
signed-note, tlog-checkpoint, tlog-proof): shares no line with what it checks. Slow, and not for secrets."""

import base64
import hashlib

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def _add(a, b):
    x1, y1, z1, t1 = a
    x2, y2, z2, t2 = b
    e, f = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    g, h = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    a, b, c, d = f - e, h - g, h + g, f + e
    return a * b % P, c * d % P, b * c % P, a * d % P


def _multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


def _point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        raise ValueError("no point")
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P:
        raise ValueError("no point")
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = _point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def ed25519_verifies(public, message, signature):
    if len(public) != 32 or len(signature) != 64:
        return False
    try:
        a, r = _point(public), _point(signature[:32])
    except ValueError:
        return False
    s = int.from_bytes(signature[32:], "little")
    if s >= Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    left, right = _multiply(s, BASE), _add(r, _multiply(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


def checkpoint(note, key):
    """(origin, size, root) of a note that `key` (a verifier key's text) signed; ValueError when it did not."""
    name, key_hash, encoded = key.strip().split("+", 2)
    decoded = base64.b64decode(encoded, validate=True)
    wanted = hashlib.sha256(name.encode() + b"\n" + decoded).digest()[:4]
    if decoded[0] != 1 or wanted.hex() != key_hash:
        raise ValueError("not an Ed25519 key")
    text, signatures = note.rsplit("\n\n", 1)
    text += "\n"
    for line in signatures.splitlines():
        dash, signer, signature = line.split(" ")
        signature = base64.b64decode(signature, validate=True)
        if dash == "—" and signer == name and signature[:4] == wanted:
            if not ed25519_verifies(decoded[1:], text.encode(), signature[4:]):
                raise ValueError("a wrong signature")
            origin, size, root = text.splitlines()[:3]
            return origin, int(size), base64.b64decode(root, validate=True)
    raise ValueError("not signed by this key")


def leaf_hash(leaf):
    return hashlib.sha256(b"\0" + leaf).digest()


def _node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def inclusion_root(index, size, leaf, path):
    """The root that the path leads to, by the recursive definition of RFC 6962, 2.1.1."""
    if size == 1:
        if path:
            raise ValueError("too many hashes")
        return leaf
    split = 1 << (size - 1).bit_length() - 1
    if not path:
        raise ValueError("too few hashes")
    if index < split:
        return _node(inclusion_root(index, split, leaf, path[:-1]), path[-1])
    return _node(path[-1], inclusion_root(index - split, size - split, leaf, path[:-1]))


def consistency_roots(old, size, old_root, proof, whole=True):
    """The two roots that a proof of RFC 6962, 2.1.2, leads to."""
    if old == size:
        if whole:
            if proof:
                raise ValueError("too many hashes")
            return old_root, old_root
        if len(proof) != 1:
            raise ValueError("a wrong number of hashes")
        return proof[0], proof[0]
    if not proof:
        raise ValueError("too few hashes")
    split = 1 << (size - 1).bit_length() - 1
    if old <= split:
        before, after = consistency_roots(old, split, old_root, proof[:-1], whole)
        return before, _node(after, proof[-1])
    before, after = consistency_roots(old - split, size - split, old_root, proof[:-1], False)
    return _node(proof[-1], before), _node(proof[-1], after)


def verify_inclusion_text(text, key):
    """A c2sp.org/tlog-proof with the leaf, and its payload after it, as extra data. Gives (leaf, payload, size)."""
    head, note = text.split("\n\n", 1)
    lines = head.splitlines()
    if lines[0] != "c2sp.org/tlog-proof@v1" or not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        raise ValueError("not a proof")
    extra = base64.b64decode(lines[1][6:], validate=True)
    index = int(lines[2][6:])
    # 4 magic, 8 sequence, 8 time, actor, action, 32 payload digest, 32 previous hash
    at = 20
    for _ in range(2):
        length, shift = 0, 0
        while True:
            byte = extra[at]
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        at += length
    leaf, payload = extra[:at + 64], extra[at + 64:]
    if hashlib.sha256(payload).digest() != leaf[at:at + 32] or int.from_bytes(leaf[4:12], "little") != index:
        raise ValueError("the payload is not the leaf's")
    _, size, root = checkpoint(note, key)
    path = [base64.b64decode(line, validate=True) for line in lines[3:]]
    if inclusion_root(index, size, leaf_hash(leaf), path) != root:
        raise ValueError("the hashes do not lead to the root")
    return leaf, payload, size
