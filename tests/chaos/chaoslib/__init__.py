# SPDX-License-Identifier: Apache-2.0
"""The parts of a chaos run: the load, the faults, the evidence and the checks of it."""
