"""Kinds that break the promise on purpose, to show that the pool notices. Only one test imports them."""

import os
import time

import numpy as np
import trials
from trials import Answer, Trial


@trials.kind("planted_sleep")
def planted_sleep(random, folder):
    return Trial("sleeps", lambda: time.sleep(60))


@trials.kind("planted_loop")
def planted_loop(random, folder):
    def loop():
        while True:
            pass

    return Trial("loops", loop)


@trials.kind("planted_memory")
def planted_memory(random, folder):
    def take():
        blocks = []
        for _ in range(2000):
            blocks.append(np.ones(1 << 20))
            time.sleep(0.002)
        return Answer(value=len(blocks))

    return Trial("asks for 16 GiB", take)


@trials.kind("planted_death")
def planted_death(random, folder):
    return Trial("dies", lambda: os._exit(3))


@trials.kind("planted_answer")
def planted_answer(random, folder):
    return Trial("answers", lambda: Answer(value=1))
