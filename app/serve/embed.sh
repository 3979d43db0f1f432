#!/bin/sh
# embed.sh FILE - the bytes of a file as the inside of a C array.
# SPDX-License-Identifier: Apache-2.0
set -eu
od -An -v -tu1 "$1" | sed 's/[0-9][0-9]*/&,/g'
