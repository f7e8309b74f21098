"""Threads that wait for work in compiled code, and the barrier between phases of it.

The team is a piece of memory; each of its words lies on a cache line of its own. A job is an
entry and its block. Who waits spins for a while, then sleeps: a loop that calls again at once
finds its helpers awake.

A job is for so many threads, which meet at barriers; or it is open: whoever comes takes tickets
until there are none, and the leader, who begins at once, waits only for those who came.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from deltaprop.backends.loops.jit import FLUSHED, KEPT, entry, flushes, jit
from deltaprop.backends.records import (
    ARRIVED,
    BLOCK,
    CONDITION,
    CORE,
    ENTRY,
    INSIDE,
    JOB,
    MUTEX,
    OPEN,
    PASSED,
    PENDING,
    SLEEPERS,
    STATUS,
    TICKET,
)

LINUX = sys.platform == "linux"
THREADS = (1 << 16) - 1
"""The bits of a job that say for how many threads it is; those above count the jobs."""
PATIENCE = 4000
"""Looks at a word before others may have the core: a few tenths of a millisecond."""
WAKEFUL = 8000
"""Looks before a helper sleeps: about a millisecond, for to wake it takes a tenth of one."""


def _ordered(name: str) -> Any:
    def pointer(builder: Any, address: Any) -> Any:
        return builder.inttoptr(address, address.type.as_pointer())

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = pointer(builder, args[0])
        if name == "load":
            return builder.load_atomic(where, "seq_cst", 8)
        if name == "store":
            builder.store_atomic(args[1], where, "seq_cst", 8)
            return context.get_dummy_value()
        return builder.atomic_rmw(name, where, args[1], "seq_cst")

    return code


@intrinsic
def look(typing_context, address):  # type: ignore[no-untyped-def]
    """The word there."""
    return types.intp(types.intp), _ordered("load")


@intrinsic
def put(typing_context, address, value):  # type: ignore[no-untyped-def]
    """The word there becomes `value`."""
    return types.void(types.intp, types.intp), _ordered("store")


@intrinsic
def add(typing_context, address, value):  # type: ignore[no-untyped-def]
    """The word there, to which `value` is added."""
    return types.intp(types.intp, types.intp), _ordered("add")


@intrinsic
def pause(typing_context):  # type: ignore[no-untyped-def]
    """Leaves the core to others for a moment."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        hint = "pause" if binding.get_process_triple().startswith(("x86", "i686")) else "yield"
        nothing = ir.FunctionType(ir.VoidType(), [])
        builder.call(ir.InlineAsm(nothing, hint, "", side_effect=True), [])
        return context.get_dummy_value()

    return types.void(), code


def _posix(name: str, count: int) -> Any:
    """A function of the C library that takes so many addresses and returns an int."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        called = ir.FunctionType(ir.IntType(32), [ir.IntType(64)] * count)
        builder.call(cgutils.get_or_insert_function(builder.module, called, name), args)
        return context.get_dummy_value()

    return code


@intrinsic
def lock(typing_context, mutex):  # type: ignore[no-untyped-def]
    """pthread_mutex_lock."""
    return types.void(types.intp), _posix("pthread_mutex_lock", 1)


@intrinsic
def unlock(typing_context, mutex):  # type: ignore[no-untyped-def]
    """pthread_mutex_unlock."""
    return types.void(types.intp), _posix("pthread_mutex_unlock", 1)


@intrinsic
def wait(typing_context, condition, mutex):  # type: ignore[no-untyped-def]
    """pthread_cond_wait."""
    return types.void(types.intp, types.intp), _posix("pthread_cond_wait", 2)


@intrinsic
def wake(typing_context, condition):  # type: ignore[no-untyped-def]
    """pthread_cond_broadcast."""
    return types.void(types.intp), _posix("pthread_cond_broadcast", 1)


@intrinsic
def give_way(typing_context):  # type: ignore[no-untyped-def]
    """sched_yield."""
    return types.void(), _posix("sched_yield", 0)


@intrinsic
def call_entry(typing_context, where, block, thread, threads):  # type: ignore[no-untyped-def]
    """What the entry at that address returns."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = args[0].type
        called = ir.FunctionType(word, [word] * 3)
        return builder.call(builder.inttoptr(args[0], called.as_pointer()), args[1:])

    return types.intp(*[types.intp] * 4), code


@jit
def rest(looks):  # type: ignore[no-untyped-def]
    """Between two looks at a word: after many, whoever else wants this core may have it."""
    if looks < PATIENCE:
        pause()
    else:
        give_way()


@intrinsic
def core(typing_context):  # type: ignore[no-untyped-def]
    """The core that this thread is on."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        called = ir.FunctionType(ir.IntType(32), [])
        found = cgutils.get_or_insert_function(builder.module, called, "sched_getcpu")
        return builder.sext(builder.call(found, []), ir.IntType(64))

    return types.intp(), code


@intrinsic
def move_away(typing_context, core):  # type: ignore[no-untyped-def]
    """If this thread was woken on that core, where the leader is at work, it goes to another.

    The system would move one of them later, when the job is over. What cores the thread may use
    stays as it is.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, size = ir.IntType(64), ir.IntType(64)(128)
        here = ir.FunctionType(ir.IntType(32), [])
        masks = ir.FunctionType(ir.IntType(32), [ir.IntType(32), word, word])
        get, ask, move = (
            cgutils.get_or_insert_function(builder.module, kind, name)
            for kind, name in (
                (here, "sched_getcpu"),
                (masks, "sched_getaffinity"),
                (masks, "sched_setaffinity"),
            )
        )
        mine = builder.sext(builder.call(get, []), word)
        known = builder.icmp_unsigned("<", args[0], word(1024))
        with builder.if_then(builder.and_(known, builder.icmp_signed("==", mine, args[0]))):
            mask = builder.alloca(ir.ArrayType(word, 16))
            where, me = builder.ptrtoint(mask, word), ir.IntType(32)(0)
            builder.call(ask, [me, size, where])
            part = builder.gep(mask, [word(0), builder.lshr(mine, word(6))])
            cores = builder.load(part)
            bit = builder.shl(word(1), builder.and_(mine, word(63)))
            builder.store(builder.and_(cores, builder.not_(bit)), part)
            builder.call(move, [me, size, where])
            builder.store(cores, part)
            builder.call(move, [me, size, where])
        return context.get_dummy_value()

    return types.void(types.intp), code


@jit
def barrier(team, threads):  # type: ignore[no-untyped-def]
    """Returns when all threads have come here."""
    if threads == 1:
        return
    passed = look(team + PASSED)
    if add(team + ARRIVED, 1) == threads - 1:
        put(team + ARRIVED, 0)
        put(team + PASSED, passed + 1)
        return
    looks = 0
    while look(team + PASSED) == passed:
        looks += 1
        rest(looks)


@jit
def tickets(team, count):  # type: ignore[no-untyped-def]
    """The first of `count` tickets of an open job that are this thread's, and nobody else's."""
    return add(team + TICKET, count)


@jit
def publish(team, count):  # type: ignore[no-untyped-def]
    """A new job for so many threads; those that sleep are woken."""
    put(team + JOB, (look(team + JOB) | THREADS) + 1 + count)
    if look(team + SLEEPERS) > 0:
        lock(team + MUTEX)
        wake(team + CONDITION)
        unlock(team + MUTEX)


@jit
def until_zero(word):  # type: ignore[no-untyped-def]
    """Returns when the word is 0."""
    looks = 0
    while look(word) > 0:
        looks += 1
        rest(looks)


def lead(unused: np.dtype[Any]) -> Any:
    """(job, -, -), four words: team, entry, block, threads: the whole of a job.

    An open job has `OPEN` in its threads. Nobody begins one whose leader flushes subnormals.
    """

    @entry
    def run(job, thread, threads):  # type: ignore[no-untyped-def]
        team, work, block, count = look(job), look(job + 8), look(job + 16), look(job + 24)
        is_open, wanted = count & OPEN, count & ~OPEN
        if is_open and flushes():
            return FLUSHED
        put(team + ENTRY, work)
        put(team + BLOCK, block)
        put(team + STATUS, KEPT)
        put(team + TICKET, 0)
        put(team + PENDING, 0 if is_open else wanted - 1)
        if LINUX:
            put(team + CORE, core())
        publish(team, count)
        status = call_entry(work, block, 0, wanted)
        if is_open:
            put(team + JOB, (look(team + JOB) | THREADS) + 1)  # for nobody: who comes now is late
        until_zero(team + (INSIDE if is_open else PENDING))
        return status | look(team + STATUS)

    return run


@jit
def take_part(team, thread, seen):  # type: ignore[no-untyped-def]
    """This thread's share of the job that was seen, if the job wants it."""
    wanted = seen & (THREADS & ~OPEN)
    if thread >= wanted:
        return
    if seen & OPEN:
        add(team + INSIDE, 1)
        # Either the job is seen to be over, or the leader, when it is, sees this thread inside.
        if look(team + JOB) == seen and not flushes():
            call_entry(look(team + ENTRY), look(team + BLOCK), thread, wanted)
        add(team + INSIDE, -1)
        return
    status = call_entry(look(team + ENTRY), look(team + BLOCK), thread, wanted)
    if status != KEPT:
        put(team + STATUS, status)
    add(team + PENDING, -1)


def serve(unused: np.dtype[Any]) -> Any:
    """(team, thread, -): takes part in every job that wants this thread, until the team ends."""

    @entry
    def run(team, thread, threads):  # type: ignore[no-untyped-def]
        seen = 0
        while True:
            looks = 0
            while look(team + JOB) == seen and looks < WAKEFUL:
                looks += 1
                rest(looks)
            if look(team + JOB) == seen:
                lock(team + MUTEX)
                add(team + SLEEPERS, 1)
                while look(team + JOB) == seen:
                    wait(team + CONDITION, team + MUTEX)
                add(team + SLEEPERS, -1)
                unlock(team + MUTEX)
                if LINUX:
                    move_away(look(team + CORE))
            seen = look(team + JOB)
            take_part(team, thread, seen)

    return run
