# SPDX-License-Identifier: Apache-2.0
"""The parts of `deploy/local/demo`: a stage (stack, client, webhook sink, screen) and one file a scene."""
