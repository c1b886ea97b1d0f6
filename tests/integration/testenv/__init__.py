# SPDX-License-Identifier: Apache-2.0
"""What the integration tests see of Nightshift: a stack of real servers, and a client for each."""
