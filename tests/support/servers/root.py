"""Commands inside the root file system of another release, in namespaces of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Makes the root the only file system that the command sees. The shell stays process 1 of its
#: PID namespace: it collects orphans, and when it ends, the kernel ends all others.
_ENTER: Final = """\
set -eu
root=$1
shift
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
for bind; do
    [ "$bind" != -- ] || break
    shift
    path=${bind#*:}
    case $bind in
    empty:*)
        mount -t tmpfs tmpfs "$root$path"
        ;;
    *)
        mkdir -p "$root$path"
        mount --bind "$path" "$root$path"
        ;;
    esac
    case $bind in
    read:*) mount -o remount,bind,ro "$root$path" ;;
    esac
done
shift
cd "$root"
pivot_root . mnt
umount -l /mnt
status=0
/usr/bin/env -i "$@" || status=$?
exit "$status"
"""
#: What a command sees unless its environment says otherwise.
_VARIABLES: Final = {
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """How commands enter one root.

    Mounts and processes are in namespaces of their own. They end with the command, also when
    this process is killed. The network is the host's.
    """

    root: Path
    #: Folders of the host that are mounted at the same path, read-only.
    read: Sequence[Path] = ()
    #: Folders of the host that are mounted at the same path.
    write: Sequence[Path] = ()
    #: Folders of the root that are empty and private to the command.
    empty: Sequence[str] = ()

    def words(
        self, command: Sequence[str], *, environment: Mapping[str, str], folder: str = "/"
    ) -> list[str]:
        """The command line that runs a command inside as root."""
        variables = {**_VARIABLES, **environment}
        inside = [f"{name}={value}" for name, value in variables.items()]
        # env's option -C is newer than some systems that could be tested.
        inside += ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", folder, *command]
        binds = [f"empty:{path}" for path in self.empty]
        binds += [f"read:{path}" for path in self.read]
        binds += [f"write:{path}" for path in self.write]
        return [
            *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"),
            *("--kill-child=KILL", "--propagation", "private", "sh", "-c", _ENTER, "sh"),
            *(str(self.root), *binds, "--", *inside),
        ]
