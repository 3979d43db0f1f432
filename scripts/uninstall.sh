#!/bin/sh
# uninstall.sh BUILD - removes what 'make install' put in place: reads Meson's own list of installed files,
# honours DESTDIR.  Folders left empty go as well, but not those of /usr and /usr/local, which belong to the
# system.  Models and histories of users stay.
# SPDX-License-Identifier: Apache-2.0
set -eu
python3 - "$1" <<'END'
import json, os, subprocess, sys

def ask(what):
    return json.loads(subprocess.check_output(["meson", "introspect", what, sys.argv[1]]))

staging = os.path.abspath(os.environ["DESTDIR"]) if os.environ.get("DESTDIR") else ""
prefix = next(o["value"] for o in ask("--buildoptions") if o["name"] == "prefix")
folders = set()
for target in ask("--installed").values():
    path = staging + target
    if os.path.lexists(path) and not os.path.isdir(path):
        os.remove(path)
        print("removed", path)
    folder = os.path.dirname(path)
    while folder.startswith(staging + "/") and folder != "/":
        folders.add(folder)
        folder = os.path.dirname(folder)
is_shared = not staging and prefix in ("/usr", "/usr/local")
for folder in sorted(folders, key=len, reverse=True):
    ours = os.path.basename(folder) == "aperto"
    below = not staging and not (folder + "/").startswith(prefix + "/")
    if ours or not (is_shared or below):
        try:
            os.rmdir(folder)
        except OSError:
            pass  # something else lives there
END
