# SPDX-License-Identifier: Apache-2.0
"""What the benchmark is made of: the machine, the stack under load, and one file per question."""
