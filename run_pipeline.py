#!/usr/bin/env python3
"""Find cars, cyclists and pedestrians in road video: the program in a checkout."""

from squeezedrive.__main__ import program

if __name__ == "__main__":
    program()
