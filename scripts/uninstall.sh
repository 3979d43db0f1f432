#!/bin/sh
# uninstall.sh BUILD - removes what 'make install' put in place: reads Meson's own
# list of installed files, honours DESTDIR.  Models and histories of users stay.
# SPDX-License-Identifier: Apache-2.0
set -eu
python3 - "$1" <<'EOF'
import json, os, subprocess, sys
destdir = os.environ.get("DESTDIR", "")
installed = json.loads(subprocess.check_output(["meson", "introspect", "--installed", sys.argv[1]]))
for target in installed.values():
    path = destdir + target
    if os.path.lexists(path) and not os.path.isdir(path):
        os.remove(path)
        print("removed", path)
EOF
