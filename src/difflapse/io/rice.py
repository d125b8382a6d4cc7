"""placeholder"""


def can_decode(h):
    return False


def decode(h, b, d):
    return None
