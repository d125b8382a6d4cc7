"""The loops of `rice`, compiled; imported only where a RICE image is read, for numba takes half a second to
import.

The state of a stream of bits is four numbers: the address of the next byte, a 64-bit buffer whose highest
bits come next, how many of its bits are valid (those below them may already be right, and are never wrong),
and the end. Bytes are loaded by address: handing an array to every helper would count its references once per
pixel.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call,import-untyped"

from __future__ import annotations

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

BEYOND = 1 << 40
"""Added to the address of a stream that ran past its end, so that its tile is seen to be damaged."""


@nb.njit(nogil=True, cache=True)
def decode_tiles(data, starts, lengths, out, tile_ny, tile_nx, block, top, bits):  # noqa: D417
    """Decode all tiles of an image into `out`; return the index of the first damaged tile, or -1.

    Parameters
    ----------
    data : (n,) uint8
        Bytes that hold the tiles, contiguous.
    starts, lengths : (m,) int64
        Bytes of each tile in `data`; tiles go row by row over the image.
    out : (ny, nx) uint8, uint16 or uint32
    tile_ny, tile_nx, block : int
        Size of a tile and length of a block of one code, pixels.
    top : integer like `out`
        Bits turned over in each pixel: the highest, to add 2**(bits - 1), or none.
    bits : int
        8, 16 or 32.
    """
    ny, nx = out.shape
    flat = out.reshape(-1)
    spare = np.empty(tile_ny * tile_nx, out.dtype)
    base = data.ctypes.data
    end = base + len(data)
    tile = 0
    for y in range(0, ny, tile_ny):
        height = min(tile_ny, ny - y)
        for x in range(0, nx, tile_nx):
            width = min(tile_nx, nx - x)
            n = height * width
            straight = height == 1 or width == nx
            pixels = flat[y * nx + x : y * nx + x + n] if straight else spare[:n]
            last = _decode_tile(base + starts[tile], end, pixels, block, top, bits)
            if last > base + starts[tile] + lengths[tile]:
                return tile
            if not straight:
                out[y : y + height, x : x + width] = pixels.reshape(height, width)
            tile += 1
    return -1


@nb.njit(nogil=True, cache=True)
def _decode_tile(at, end, pixels, block, top, bits):
    """Decode one tile; return the address after its last byte."""
    code_bits, raw_code = (3, 6) if bits == 8 else ((4, 14) if bits == 16 else (5, 25))
    code_width = np.uint64(code_bits)
    width = np.uint64(bits)
    one, all_bits = np.uint64(1), np.uint64(64)
    at, buffer, have = _refill(at, end, np.uint64(0), np.uint64(0))
    # Differences start from the first pixel, which is stored as it is.
    last = buffer >> (all_bits - width)
    buffer <<= width
    have -= width
    for i in range(0, len(pixels), block):
        stop = min(i + block, len(pixels))
        at, buffer, have = _refill(at, end, buffer, have)
        code = np.int64(buffer >> (all_bits - code_width)) - 1
        buffer <<= code_width
        have -= code_width
        if code < 0:
            for j in range(i, stop):
                pixels[j] = last ^ top
        elif code >= raw_code:
            for j in range(i, stop):
                at, buffer, have = _refill(at, end, buffer, have)
                difference = buffer >> (all_bits - width)
                buffer <<= width
                have -= width
                last += (difference >> one) ^ (np.uint64(0) - (difference & one))
                pixels[j] = last ^ top
        else:
            low = np.uint64(code)
            for j in range(i, stop):
                if (j & 3) == 0:
                    # Without asking whether it must be: a wrong guess of the processor costs more.
                    at, buffer, have = _refill(at, end, buffer, have)
                zeros = _leading_zeros(buffer)
                skip = zeros
                if zeros + low + one > have:
                    at, buffer, have = _refill(at, end, buffer, have)
                    zeros = _leading_zeros(buffer)
                    skip = zeros
                    if zeros + low + one > have:
                        at, buffer, have, zeros = _long_run(at, end, buffer, have)
                        skip = np.uint64(0)
                # In two steps, as a shift by 64 is undefined.
                rest = buffer << (skip + one)
                difference = (zeros << low) | ((rest >> one) >> (np.uint64(63) - low))
                buffer <<= skip + one + low
                have -= skip + one + low
                last += (difference >> one) ^ (np.uint64(0) - (difference & one))
                pixels[j] = last ^ top
    return at - np.int64(have >> np.uint64(3))


@nb.njit(nogil=True, cache=True)
def _long_run(at, end, buffer, have):
    """Count zeros that do not fit in the buffer; leaves it full, with the closing 1 as its first bit."""
    run = np.uint64(0)
    zeros = _leading_zeros(buffer)
    while zeros >= have:
        run += have
        if at > end + 16:
            # There is no closing 1: invent one, at a place that shows the damage.
            return at + BEYOND, np.uint64(1) << np.uint64(63), np.uint64(60), run
        at, buffer, have = _refill(at, end, np.uint64(0), np.uint64(0))
        zeros = _leading_zeros(buffer)
    run += zeros
    at, buffer, have = _refill(at, end, buffer << zeros, have - zeros)
    return at, buffer, have, run


@nb.njit(nogil=True, cache=True)
def _refill(at, end, buffer, have):
    """Fill up to 56 bits or more; beyond the end come zeros."""
    word = _load_8_bytes(at) if at + 8 <= end else _load_tail(at, end)
    at += np.int64((np.uint64(63) - have) >> np.uint64(3))
    return at, buffer | (word >> have), have | np.uint64(56)


@nb.njit(nogil=True, cache=True)
def _load_tail(at, end):
    word = np.uint64(0)
    for k in range(8):
        word <<= np.uint64(8)
        if at + k < end:
            word |= _load_byte(at + k)
    return word


@intrinsic
def _leading_zeros(typing_context, value):
    def generate(context, builder, signature, arguments):
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def _load_8_bytes(typing_context, address):
    def generate(context, builder, signature, arguments):
        number = builder.load(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()))
        number.align = 1
        return builder.bswap(number)

    return types.uint64(types.int64), generate


@intrinsic
def _load_byte(typing_context, address):
    def generate(context, builder, signature, arguments):
        number = builder.load(builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()))
        return builder.zext(number, ir.IntType(64))

    return types.uint64(types.int64), generate
